import json

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from utils import checkpoint
from utils.data.dataset import PairDataset
from utils.options import InputError
from utils.training import trainer
from utils.training.recipes import Recipe

RECIPE = Recipe(stages=2, width=1, image_size=32, augment=True, epochs=3, batch_size=4, lr=1e-3)


def train(data_root, run, resume=False, **changes):
    recipe = Recipe(**{**vars(RECIPE), **changes})
    device = torch.device("cpu")
    trainer.train(recipe, data_root / "tiny", run, device=device, workers=0, resume=resume)
    return checkpoint.load(run / "last.pkl")


def weights(loaded):
    return torch.cat([value.flatten().double() for value in loaded.net.state_dict().values()])


def test_a_run_leaves_its_weights_log_configuration_and_scalars(data_root, tmp_path):
    run = tmp_path / "run"
    last = train(data_root, run)
    names = {path.name.split(".")[0] for path in run.iterdir()}
    assert names == {"best", "last", "log", "config", "events"}

    config = json.loads((run / "config.json").read_text())
    assert config["dataset"] == "tiny" and config["recipe"] == vars(RECIPE)
    assert len(config["held_out"]) == 1

    log = (run / "log.txt").read_text()
    assert log.startswith("tiny: 11 images to train on, 1 held out")
    assert "epoch   3/3  loss" in log and "best so far" in log

    best = checkpoint.load(run / "best.pkl")
    assert best.info["dataset"] == "tiny" and best.info["epoch"] in (1, 2, 3)
    assert not best.training and last.training["epoch"] == 3

    events = EventAccumulator(str(run)).Reload()
    assert "validation/fa" in events.Tags()["scalars"]
    rates = [event.value for event in events.Scalars("training/lr")]
    np.testing.assert_allclose(
        rates, [1e-3 * (1 - step / 6) ** 0.9 for step in range(6)], rtol=1e-6
    )


def test_same_seed_same_weights_and_another_seed_others(data_root, tmp_path):
    first = train(data_root, tmp_path / "1", epochs=1)
    assert torch.equal(weights(first), weights(train(data_root, tmp_path / "2", epochs=1)))
    assert not torch.equal(
        weights(first), weights(train(data_root, tmp_path / "3", seed=1, epochs=1))
    )


def test_an_interrupted_run_goes_on_to_the_very_same_weights(data_root, tmp_path, monkeypatch):
    whole = train(data_root, tmp_path / "whole")
    one_epoch, calls = trainer.train_one_epoch, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return one_epoch(*arguments)

    monkeypatch.setattr(trainer, "train_one_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(data_root, tmp_path / "run")
    resumed = train(data_root, tmp_path / "run", resume=True)
    assert len(calls) == 4
    assert torch.equal(weights(whole), weights(resumed))


def test_it_learns_bright_squares(data_root, tmp_path):
    train(data_root, tmp_path / "run", crop_size=32, epochs=25, lr=1e-2, val_every=25)
    lines = (tmp_path / "run" / "log.txt").read_text().splitlines()[1:]
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines]
    assert losses[-1] < 0.6 * losses[0]


def test_validation_counts_at_the_size_asked_for(data_root):
    samples = PairDataset(data_root / "tiny" / "trainval")

    class Certain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.parameter = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            self.target = (images > 0.5).float() - 0.5
            return self

    counts = trainer.validate(Certain(), samples, [2, 5], None)
    assert (counts.n_images, counts.n_pixels, counts.n_hits) == (2, 2 * 40 * 48, 2)
    assert counts.tp_px == 18 and counts.fp_px == counts.fn_px == 0
    assert trainer.validate(Certain(), samples, [2, 5], 24).n_pixels == 2 * 24 * 24


def test_masks_that_are_all_empty_stop_it_before_anything_is_written(data_root, tmp_path):
    for path in (data_root / "tiny" / "trainval" / "masks").iterdir():
        cv2.imwrite(str(path), np.zeros((40, 48), np.uint8))
    with pytest.raises(InputError, match="every mask is empty"):
        train(data_root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_it_with_the_names(data_root, tmp_path):
    with pytest.raises(InputError, match=r"the loss is not finite on trainval\d+, .*lower --lr"):
        train(data_root, tmp_path / "run", lr=1e30)


def test_a_data_set_that_changed_is_not_resumed_on(data_root, tmp_path):
    train(data_root, tmp_path / "run", epochs=1)
    for kind in ("images", "masks"):
        for path in (data_root / "tiny" / "trainval" / kind).iterdir():
            path.rename(path.with_name(f"new_{path.name}"))
    with pytest.raises(InputError, match="not the images that"):
        train(data_root, tmp_path / "run", resume=True)


def test_a_batch_of_a_single_value_is_refused_before_anything_is_written(data_root, tmp_path):
    with pytest.raises(InputError, match="more than one value"):
        train(data_root, tmp_path / "run", batch_size=1)
    assert not (tmp_path / "run").exists()
