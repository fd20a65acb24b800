import functools
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.swa_utils import AveragedModel

from model import build_model
from utils import checkpoint, files
from utils.data.dataset import PairDataset
from utils.metrics.counts import Counts
from utils.options import InputError, Stopped
from utils.training import trainer
from utils.training.plan import new_plan
from utils.training.recipes import Recipe
from utils.training.runtime import Runtime
from utils.training.step import Average

ROOT = Path(__file__).parents[3]
RECIPE = Recipe(
    stages=2,
    width=1,
    image_size=32,
    augment=True,
    jitter=0.1,
    epochs=3,
    batch_size=4,
    lr=1e-3,
    warmup=2,
    clip_norm=1.0,
    ema=0.9,
    every_stage=True,
    selection="validation",
)


def train(data_root, run, resume=False, save_minutes=10.0, workers=0, **changes):
    runtime = Runtime(torch.device("cpu"), workers=workers, save_minutes=save_minutes)
    recipe = replace(RECIPE, **changes)
    others = [data_root / name for name in recipe.others]
    trainer.train(recipe, data_root / "tiny", run, others=others, runtime=runtime, resume=resume)
    return checkpoint.load(run / "last.pkl")


def everything(loaded):
    """All that training has changed, as one vector: weights, their average, the optimiser."""
    flat = []

    def walk(value):
        if isinstance(value, torch.Tensor):
            flat.append(value.flatten().double())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                walk(value[key])

    walk(dict(loaded.net.state_dict()))
    walk({name: loaded.training[name] for name in ("averaged", "optimizer")})
    return torch.cat(flat)


def scalars(run, name):
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_run_explains_itself(data_root, tmp_path):
    run = tmp_path / "run"
    last = train(data_root, run)
    names = {path.name.split(".")[0] for path in run.iterdir()}
    assert names == {
        "best", "last", "log", "config", "split", "environment", "summary", "test", "events",
    }  # fmt: skip

    config = json.loads((run / "config.json").read_text())
    assert config["dataset"] == "tiny" and config["recipe"] == vars(RECIPE)
    assert re.fullmatch("[0-9a-f]{64}", config["data_sha256"])
    split = json.loads((run / "split.json").read_text())
    assert len(split["validation"]) == 1 and len(split["training"]) == 11
    assert not set(split["validation"]) & set(split["training"])
    (session,) = json.loads((run / "environment.json").read_text())["sessions"]
    computed = {"device": "cpu", "precision": "fp32", "workers": 0, "compiled": False}
    assert session["runtime"].items() >= computed.items()
    assert session["packages"]["torch"] == metadata.version("torch")
    if (ROOT / ".git").exists() and shutil.which("git"):
        assert re.fullmatch(r"[0-9a-f]{40}\+?", session["commit"])
    else:
        assert session["commit"] is None

    log = (run / "log.txt").read_text()
    assert log.startswith(
        "tiny: 11 images to train on, 1 held out; batches of 4, 2 an epoch; 2 stages, "
    )
    assert "1 threads, " in log and "epoch   3/3  loss" in log and "best so far" in log
    assert "test, epoch " in log and "32x32: IoU" in log

    best = checkpoint.load(run / "best.pkl")
    assert best.info["epoch"] == json.loads((run / "summary.json").read_text())["best"]["epoch"]
    assert not best.training and last.training["progress"]["epoch"] == 4

    rates = [value for _, value in scalars(run, "training/lr")]
    expected = [1e-3 * min(1, (i + 1) / 3) * (1 - i / 6) ** 0.9 for i in range(6)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    events = EventAccumulator(str(run)).Reload()
    tags = {tag.split("/")[1] for tag in events.Tags()["scalars"]}
    assert {
        "loss", "stage_1", "stage_2", "gradient_norm", "images_per_s", "memory_mib", "iou", "niou",
        "pd", "fa",
    } <= tags  # fmt: skip
    (picture,) = events.Tags()["images"]
    shown = events.Images(picture)[0]
    assert (shown.height, shown.width) == (32, 32 * 5)


def test_the_loss_is_that_of_the_stages_and_the_reconstruction(data_root, tmp_path):
    train(data_root, tmp_path / "run", epochs=1)
    found = {
        name: scalars(tmp_path / "run", f"training/{name}")[0][1]
        for name in ("loss", "segmentation", "reconstruction", "stage_1", "stage_2")
    }
    weighted = found["stage_1"] / 3 + found["stage_2"] * 2 / 3
    assert found["segmentation"] == pytest.approx(weighted, rel=1e-6)
    assert found["loss"] == pytest.approx(weighted + 0.1 * found["reconstruction"], rel=1e-6)
    assert found["reconstruction"] > 1e-3


def test_the_average_follows_the_weights(data_root, tmp_path):
    last = train(data_root, tmp_path / "run", val_every=3)
    average = last.training["averaged"]["net"]
    best = checkpoint.load(tmp_path / "run" / "best.pkl").net.state_dict()
    own = last.net.state_dict()
    name = "decoupling.0.bsgu.lift.weight"
    assert torch.equal(best[name], average[name])
    step = (own[name] - average[name]).abs().max()
    assert 0 < step < 6e-3
    buffers = [name for name in own if name.endswith("running_mean")]
    assert buffers and all(torch.equal(best[name], own[name]) for name in buffers)


def test_the_learning_rate_rises_and_falls(data_root, tmp_path):
    train(data_root, tmp_path / "run", epochs=4, warmup=4)
    rates = [value for _, value in scalars(tmp_path / "run", "training/lr")]
    rise = np.array([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])
    fall = np.array([(1 - i / 8) ** 0.9 for i in range(8)])
    np.testing.assert_allclose(rates, 1e-3 * rise * fall, rtol=1e-6)


def test_the_average_is_that_of_pytorch():
    net = build_model(stages=1, width=2)
    rises = lambda updates: min(0.4, (1 + updates) / (10 + updates))  # noqa: E731
    theirs = AveragedModel(
        net, multi_avg_fn=lambda a, b, n: torch._foreach_lerp_(a, b, 1 - rises(int(n)))
    )
    ours = Average(net, 0.4)
    for _ in range(8):
        for tensor in net.state_dict().values():
            tensor += 1 if tensor.dtype == torch.int64 else torch.rand_like(tensor)
        ours.update()
        theirs.update_parameters(net)
        expected = theirs.module.state_dict()
        for name, value in ours.net.state_dict().items():
            assert torch.equal(value, expected[name]), name


def test_same_seed_same_weights_and_another_seed_others(data_root, tmp_path):
    first = everything(train(data_root, tmp_path / "1", epochs=1))
    assert torch.equal(first, everything(train(data_root, tmp_path / "2", epochs=1)))
    assert not torch.equal(first, everything(train(data_root, tmp_path / "3", epochs=1, seed=1)))


def scripted(monkeypatch, hits):
    """Let validation find so many of 10 target pixels, epoch by epoch."""
    found = iter(hits)
    monkeypatch.setattr(
        trainer,
        "validate",
        lambda *_: Counts(n_images=1, tp_px=(n := next(found)), fn_px=10 - n),
    )


def test_the_best_epoch_is_kept_and_of_equals_the_last(data_root, tmp_path, monkeypatch):
    for hits, best in (([2, 5, 3], 2), ([0, 0, 0], 3), ([4, 4, 1], 2)):
        scripted(monkeypatch, [*hits, 0])
        run = tmp_path / str(hits)
        train(data_root, run)
        assert checkpoint.load(run / "best.pkl").info["epoch"] == best
        assert json.loads((run / "summary.json").read_text())["best"]["iou"] == max(hits) / 10


@pytest.fixture
def validated(monkeypatch):
    """The names of the images of every validation, with the weights that it was of."""
    calls = []
    validate = trainer.validate

    def noted(net, samples, indices, recipe):
        weights = {name: value.clone() for name, value in net.state_dict().items()}
        calls.append(([samples.pairs[i].name for i in indices], weights))
        return validate(net, samples, indices, recipe)

    monkeypatch.setattr(trainer, "validate", noted)
    return calls


def test_images_held_out_choose_and_the_test_split_is_scored_once(data_root, tmp_path, validated):
    run = tmp_path / "run"
    train(data_root, run, val_fraction=0.25)
    held_out = json.loads((run / "split.json").read_text())["validation"]
    assert len(held_out) == 3
    *epochs, (tested, weights) = validated
    assert [names for names, _ in epochs] == [held_out] * 3
    assert tested == [f"test{i}" for i in range(4)]
    best = checkpoint.load(run / "best.pkl")
    for name, value in best.net.state_dict().items():
        assert torch.equal(weights[name], value)
        assert torch.equal(epochs[best.info["epoch"] - 1][1][name], value)
    counts = trainer.validate(
        best.net, PairDataset(data_root / "tiny" / "test", RECIPE.range), range(4), RECIPE
    )
    figures = json.loads((run / "test.json").read_text())
    assert figures | trainer.figures(counts) == figures


def test_patience(data_root, tmp_path, monkeypatch):
    scripted(monkeypatch, [1, 5, 3, 4, 2, 0])
    last = train(data_root, tmp_path / "run", epochs=9, patience=2)
    assert last.training["progress"]["epoch"] == 5
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epoch"] == 4
    scripted(monkeypatch, [0] * 9)
    assert (
        train(data_root, tmp_path / "flat", epochs=9, patience=2).training["progress"]["epoch"] == 3
    )


def test_the_paper_chose_on_the_test_split_and_so_does_its_recipe(data_root, tmp_path, validated):
    run = tmp_path / "run"
    train(data_root, run, selection="test", epochs=1)
    assert [names for names, _ in validated] == [[f"test{i}" for i in range(4)]]
    split = json.loads((run / "split.json").read_text())
    assert len(split["training"]) == 12 and split["validation"] == [f"test{i}" for i in range(4)]
    assert "chosen on the test split, as the paper did" in (run / "log.txt").read_text()
    assert not (run / "test.json").exists()
    assert json.loads((run / "summary.json").read_text())["finished"]
    mask = data_root / "tiny" / "test" / "masks" / "test0.png"
    mask.write_bytes((data_root / "tiny" / "test" / "masks" / "test1.png").read_bytes())
    with pytest.raises(InputError, match="the data set has changed"):
        train(data_root, run, resume=True, selection="test", epochs=1)


def test_with_nothing_to_choose_on_all_images_train_and_the_last_epoch_counts(
    data_root, tmp_path, validated
):
    run = tmp_path / "run"
    last = train(data_root, run, selection="last", val_every=2)
    assert [names for names, _ in validated] == [[f"test{i}" for i in range(4)]]  # once, at the end
    split = json.loads((run / "split.json").read_text())
    assert len(split["training"]) == 12 and split["validation"] == []
    assert "12 images to train on, none held out; " in (run / "log.txt").read_text()
    best = checkpoint.load(run / "best.pkl")
    assert best.info["epoch"] == 3
    assert best.net.state_dict().keys() == last.training["averaged"]["net"].keys()
    for name, value in last.training["averaged"]["net"].items():
        assert torch.equal(best.net.state_dict()[name], value)
    assert json.loads((run / "summary.json").read_text())["best"] == {"epoch": 3}
    assert json.loads((run / "test.json").read_text())["epoch"] == 3


def test_it_learns_bright_squares(data_root, tmp_path):
    run = tmp_path / "run"
    plain = {"jitter": 0.0, "ema": 0.0, "every_stage": False, "warmup": 0, "clip_norm": 0.0}
    train(data_root, run, crop_size=32, epochs=25, lr=1e-2, val_every=25, **plain)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", (run / "log.txt").read_text())]
    assert min(losses[-5:]) < 0.7 * losses[0]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # read by the compiler, not by us
@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"compiled": True}])
def test_faster_ways_give_nearly_the_same(data_root, tmp_path, monkeypatch, changes):
    # the tracing, without minutes of compiling
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    losses = []
    for name, how in (("plain", {}), ("fast", changes)):
        runtime = Runtime(torch.device("cpu"), **how)
        trainer.train(
            replace(RECIPE, epochs=1), data_root / "tiny", tmp_path / name, runtime=runtime
        )
        losses.append([value for _, value in scalars(tmp_path / name, "training/loss")])
    np.testing.assert_allclose(*losses, rtol=0.01)


# --- going on -------------------------------------------------------------------------------------

forked = pytest.mark.skipif(os.name == "nt", reason="no fork on Windows")


def kill_at(moment):
    """In a forked child: have SIGKILL strike while a checkpoint is written, at a moment (kind, how
    many of it came before)."""
    kind, number = moment
    seen, now = [0], time.time
    time.time = lambda: now() - 60  # event files are ordered by the second of their names

    def strike():
        if seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        seen[0] += 1

    replace_file, sync = os.replace, os.fsync

    def killed_replace(source, target):
        if str(target).endswith("last.pkl") and kind == "before rename":
            strike()
        replace_file(source, target)
        if str(target).endswith("last.pkl") and kind == "after rename":
            strike()
        if str(target).endswith("best.pkl") and kind == "after best":
            strike()

    def killed_sync(descriptor):
        size = os.fstat(descriptor).st_size
        if kind == "half written" and size > 10_000:
            if seen[0] == number:
                os.ftruncate(descriptor, size // 2)
            strike()
        sync(descriptor)

    files.os.replace, files.os.fsync = killed_replace, killed_sync


def in_child(work):
    """Run in a forked process; its exit code."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(120)
    return child.exitcode


MOMENTS = [
    *(("before rename", n) for n in range(1, 6)),
    *(("after rename", n) for n in range(0, 6)),
    *(("half written", n) for n in range(1, 8)),  # the third of them, and the sixth, is best.pkl
    *(("after best", n) for n in range(0, 2)),
]


@pytest.mark.parametrize("minutes, kept", [(0, {1, 2}), (10, {2})])
def test_the_end_of_an_epoch_without_validation_is_saved_as_steps_are(
    data_root, tmp_path, monkeypatch, minutes, kept
):
    ends = set()  # epochs that a checkpoint has to their end
    save = checkpoint.save

    def noted(path, net, info, training):
        if training and training["progress"]["step"] == 0:
            ends.add(training["progress"]["epoch"] - 1)
        save(path, net, info, training)

    monkeypatch.setattr(checkpoint, "save", noted)
    train(data_root, tmp_path / "run", save_minutes=minutes, epochs=2, val_every=2, stages=1)
    assert ends == {0} | kept


@forked
def test_killed_at_any_moment_it_goes_on_to_the_very_same_weights(data_root, tmp_path):
    small = {"save_minutes": 0, "stages": 1}
    whole = everything(train(data_root, tmp_path / "whole", **small))
    log = re.sub(r"\d+ s\n", "", (tmp_path / "whole" / "log.txt").read_text())
    losses = scalars(tmp_path / "whole", "training/loss")
    for number, moment in enumerate(MOMENTS):
        run = tmp_path / str(number)

        def killed(moment=moment, run=run):
            kill_at(moment)
            train(data_root, run, **small)

        assert in_child(killed) == -signal.SIGKILL, moment
        resumed = train(data_root, run, resume=True, stages=1)
        assert torch.equal(everything(resumed), whole), moment
        assert re.sub(r"\d+ s\n", "", (run / "log.txt").read_text()) == log, moment
        assert scalars(run, "training/loss") == losses, moment
        assert len(scalars(run, "validation/fa")) == 3, moment
        for leftover in run.glob(".*"):  # of the file that was being written
            assert leftover.name.endswith(".tmp")


def test_with_checkpoints_at_the_ends_of_epochs_only(data_root, tmp_path, monkeypatch):
    whole = everything(train(data_root, tmp_path / "whole"))
    step, calls = trainer.train_step, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(trainer, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(data_root, tmp_path / "run")
    assert torch.equal(everything(train(data_root, tmp_path / "run", resume=True)), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_asked_to_stop_it_saves_first(data_root, tmp_path, monkeypatch, number):
    before = signal.getsignal(number)
    whole = everything(train(data_root, tmp_path / "whole"))
    step, calls = trainer.train_step, []

    def signalled(*arguments):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_step", signalled)
        with pytest.raises(Stopped, match="--resume .* goes on") as stop:
            train(data_root, tmp_path / "run")
    assert stop.value.signal == number and len(calls) == 3
    assert signal.getsignal(number) == before
    progress = checkpoint.load(tmp_path / "run" / "last.pkl").training["progress"]
    assert (progress["epoch"], progress["step"]) == (2, 1)
    assert torch.equal(everything(train(data_root, tmp_path / "run", resume=True)), whole)


@pytest.mark.parametrize("selection", ["validation", "last"])
def test_a_run_can_be_ended_before_its_last_epoch(data_root, tmp_path, monkeypatch, selection):
    recipe = replace(RECIPE, selection=selection)
    per_epoch = 2 if selection == "validation" else 3
    step, calls = trainer.train_step, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return step(*arguments)

    run = tmp_path / "run"
    how = {"runtime": Runtime(torch.device("cpu"), save_minutes=0), "resume": True, "finish": True}
    monkeypatch.setattr(trainer, "train_step", interrupted)
    stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        train(data_root, run, save_minutes=0, selection=selection)
    with pytest.raises(InputError, match="has no best.pkl yet"):
        trainer.train(recipe, data_root / "tiny", run, **how)
    stop_at = 2 * per_epoch + 3
    with pytest.raises(KeyboardInterrupt):
        train(data_root, run, save_minutes=0, resume=True, selection=selection)
    trainer.train(recipe, data_root / "tiny", run, **how)
    log = (run / "log.txt").read_text()
    assert log.count("\ntest, epoch") == 1 and "epoch   3/3" not in log
    assert json.loads((run / "summary.json").read_text())["finished"]
    train(data_root, run, resume=True, selection=selection)  # it stays ended
    assert (run / "log.txt").read_text() == log and len(calls) == stop_at


PROGRAM = """
import sys, time, torch
from pathlib import Path
from tests.utils.training.test_trainer import RECIPE
from utils.options import run_door
from utils.training import trainer
from utils.training.runtime import Runtime

def main():
    noted = []
    note, step = trainer.Signals._note, trainer.train_step
    def note_and_say(*arguments):
        note(*arguments)
        noted.append(1)
    def until_noted(*arguments):
        print("step", flush=True)
        for _ in range(6000):
            if noted:
                break
            time.sleep(0.01)
        return step(*arguments)
    trainer.Signals._note, trainer.train_step = note_and_say, until_noted
    runtime = Runtime(torch.device("cpu"), workers=1)
    trainer.train(RECIPE, Path(sys.argv[1]), Path(sys.argv[2]), runtime=runtime)

if __name__ == "__main__":
    run_door(main)
"""


def in_first_step(dataset, run):
    """PROGRAM, in a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, dataset, run],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    while process.stdout.readline() != "step\n":
        assert process.poll() is None, process.stderr.read()
    return process


def whole_group(pid):
    os.killpg(pid, signal.SIGTERM)  # the process that loads images may be in it


def every_process(pid):
    """As a batch system or systemd does."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        os.kill(int(child), signal.SIGTERM)


@pytest.mark.parametrize(
    "signal_all",
    [
        whole_group,
        pytest.param(
            every_process,
            marks=pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
        ),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_launcher_may_signal_all_processes_and_more_than_once(data_root, tmp_path, signal_all):
    process = in_first_step(data_root / "tiny", tmp_path / "run")
    signal_all(process.pid)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "stopped: --resume" in errors and "Traceback" not in errors
    assert checkpoint.load(tmp_path / "run" / "last.pkl").training["progress"]["step"] == 1


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_saves_also_where_it_has_ended_the_reader_of_the_output(data_root, tmp_path):
    process = in_first_step(data_root / "tiny", tmp_path / "run")
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 128 + signal.SIGINT
    assert checkpoint.load(tmp_path / "run" / "last.pkl").training["progress"]["step"] == 1


def test_a_run_that_was_killed_before_it_saved_begins_again(data_root, tmp_path, monkeypatch):
    whole = everything(train(data_root, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(trainer.checkpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(data_root, tmp_path / "run")
    assert not (tmp_path / "run" / "last.pkl").exists()
    assert torch.equal(everything(train(data_root, tmp_path / "run", resume=True)), whole)


def killed(*arguments):
    raise KeyboardInterrupt


def test_a_run_goes_on_in_another_precision():
    recipe = replace(RECIPE, epochs=1)
    runtime = Runtime(torch.device("cpu"))
    trainee = trainer.Trainee(recipe, runtime, trainer.TrainingGroup.alone(), per_epoch=2)
    state = trainee.state()
    assert state["scaler"] == {}
    half = trainer.Trainee(recipe, runtime, trainer.TrainingGroup.alone(), per_epoch=2)
    half.scaler = torch.amp.GradScaler("cpu")
    half.load(trainee.net, state)
    assert half.scaler.get_scale() == 65536
    trainee.load(half.net, half.state())
    # begun on a CPU, gone on with on a GPU
    half.optimizer = torch.optim.Adam(half.net.parameters(), fused=True)
    half.load(trainee.net, state)
    assert all(group["fused"] for group in half.optimizer.param_groups)


def test_a_finished_run_is_not_scored_on_the_test_split_again(data_root, tmp_path, monkeypatch):
    train(data_root, tmp_path / "run", epochs=1)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["finished"]
    log = (tmp_path / "run" / "log.txt").read_text()
    monkeypatch.setattr(trainer._Training, "_test", killed)
    train(data_root, tmp_path / "run", epochs=1, resume=True)
    assert (tmp_path / "run" / "log.txt").read_text() == log


def test_a_gpu_whose_driver_is_too_old_stops_nothing(data_root, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # and none is available
    train(data_root, tmp_path / "run", epochs=1)
    train(data_root, tmp_path / "run", epochs=1, resume=True)


def test_a_full_disk_at_the_events_is_one_line(data_root, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer.Record.scalars.__globals__["SummaryWriter"], "add_scalar", full)
    with pytest.raises(InputError, match="run: cannot be written .No space left"):
        train(data_root, tmp_path / "run")


@pytest.mark.parametrize("name, of", [("log.txt", b"epoch   1/3"), ("summary.json", b'"epoch": 1')])
def test_a_file_that_another_program_holds_stops_nothing(
    data_root, tmp_path, monkeypatch, capfd, name, of
):
    run, write = tmp_path / "run", files.write_bytes
    held = []

    def in_use(path, data):
        if path.name == name and of in data and not held:
            held.append(path)
            raise InputError(f"{path}: cannot be written (in use)")
        write(path, data)

    monkeypatch.setattr(files, "write_bytes", in_use)
    monkeypatch.setitem(trainer.Record.log.__globals__, "write_bytes", in_use)
    train(data_root, run)
    assert held and "warning: " in capfd.readouterr().err
    assert all(f"epoch   {n}/3" in (run / "log.txt").read_text() for n in (1, 2, 3))
    assert json.loads((run / "summary.json").read_text())["finished"]


def test_the_log_says_where_a_run_goes_on(data_root, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train(data_root, run, epochs=1)
    for words in ("a GPU, bf16", "a GPU, bf16", "a GPU, fp16"):
        monkeypatch.setattr(Runtime, "describe", lambda runtime, words=words: words)
        last = checkpoint.load(run / "last.pkl")
        last.training["progress"] |= {"finished": False}
        checkpoint.save(run / "last.pkl", last.net, last.info, last.training)
        train(data_root, run, epochs=1, resume=True)
    on = [line for line in (run / "log.txt").read_text().splitlines() if line.startswith("cpu: ")]
    assert on[1:] == ["cpu: a GPU, bf16", "cpu: a GPU, fp16"] and "threads" in on[0]


def test_a_full_disk_leaves_the_last_checkpoint_whole(data_root, tmp_path, monkeypatch):
    sync, saves = os.fsync, []

    def full(descriptor):
        if os.fstat(descriptor).st_size > 10_000:
            saves.append(1)
            if len(saves) == 4:
                raise OSError(28, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(InputError, match=r"\.pkl: cannot be written \(No space left"):
            train(data_root, tmp_path / "run", save_minutes=0)
    checkpoint.load(tmp_path / "run" / "last.pkl")
    assert not list((tmp_path / "run").glob("*.tmp")) + list((tmp_path / "run").glob(".*.tmp"))
    whole = everything(train(data_root, tmp_path / "whole"))
    assert torch.equal(everything(train(data_root, tmp_path / "run", resume=True)), whole)


def test_what_cannot_be_resumed(data_root, tmp_path):
    run = tmp_path / "run"
    train(data_root, run, epochs=1)
    good = (run / "last.pkl").read_bytes()
    with pytest.raises(InputError, match="not of the run that config.json describes"):
        train(data_root, run, resume=True, epochs=1, stages=1)
    loaded = checkpoint.load(run / "last.pkl")
    checkpoint.save(run / "last.pkl", loaded.net, loaded.info, {})
    with pytest.raises(InputError, match="holds no state to resume from"):
        train(data_root, run, resume=True, epochs=1)
    (run / "last.pkl").unlink()
    with pytest.raises(InputError, match=r"last\.pkl: cannot be read"):
        train(data_root, run, resume=True, epochs=1)  # its best.pkl is not overwritten
    (run / "last.pkl").write_bytes(good)
    (run / "best.pkl").rename(run / "away.pkl")
    with pytest.raises(InputError, match=r"best\.pkl: is gone"):
        train(data_root, run, resume=True, epochs=1)
    (run / "away.pkl").rename(run / "best.pkl")
    with pytest.raises(InputError, match="holds a run already"):
        train(data_root, run, epochs=1)
    path = data_root / "tiny" / "trainval" / "images" / "trainval0.png"
    path.write_bytes(cv2.imencode(".png", np.full((40, 48), 7, np.uint8))[1].tobytes())
    with pytest.raises(InputError, match="the data set has changed"):
        train(data_root, run, resume=True, epochs=1)


# --- several processes ----------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="several processes need Linux")
def test_two_processes_train_as_one(data_root, tmp_path):
    options = [
        str(ROOT / "run_0.py"), "--dataset", "tiny", "--data-root", data_root, "--device", "cpu",
        "--stages", "1", "--width", "2", "--crop-size", "32", "--epochs", "3", "--batch-size", "4",
        "--warmup", "0", "--lr", "3e-4", "--loss", "soft_iou_pooled", "--val-fraction", "0.4",
    ]  # fmt: skip
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, command in (("one", [sys.executable]), ("two", two)):
        done = subprocess.run(
            [*command, *options, "--output", tmp_path / name],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("weights: ") == 1
    for name, tolerance in (("training/loss", 1e-4), ("validation/fa", 0.01)):
        one, both = scalars(tmp_path / "one", name), scalars(tmp_path / "two", name)
        assert [step for step, _ in one] == [step for step, _ in both]
        np.testing.assert_allclose([v for _, v in one], [v for _, v in both], atol=tolerance)
    found = [
        re.findall(r"Pd \d+/(\d+)", (tmp_path / name / "log.txt").read_text())
        for name in ("one", "two")
    ]
    assert found[0] == found[1] == ["5", "5", "5", "4"]  # each image counts once
    one, both = (checkpoint.load(tmp_path / name / "last.pkl").net for name in ("one", "two"))
    for name, value in one.named_buffers():  # the statistics are those of both processes' images
        torch.testing.assert_close(value, both.get_buffer(name), atol=1e-3, rtol=1e-2)


ENDED_WORKER = """
import os, signal, sys, torch
from pathlib import Path
from utils.data.sampling import TrainingView
from utils.training import trainer
from utils.training.distributed import TrainingGroup
from utils.training.runtime import Runtime
from utils.options import run_door
from tests.utils.training.test_trainer import RECIPE

trains = os.getpid()
load = TrainingView.__getitem__

def slowly(view, draw):
    if os.getpid() != trains and os.environ["RANK"] == "1" and draw[0] == 2:
        os.kill(trains, signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGKILL)
    return load(view, draw)

def main():
    TrainingView.__getitem__ = slowly
    group = TrainingGroup("cpu")
    runtime = Runtime(torch.device("cpu"), workers=1)
    trainer.train(RECIPE, Path(sys.argv[1]), Path(sys.argv[2]), runtime=runtime, group=group)

if __name__ == "__main__":
    run_door(main)
"""


@pytest.mark.skipif(os.name == "nt", reason="several processes need Linux")
def test_processes_stop_together_where_a_signal_has_ended_a_worker_of_one(data_root, tmp_path):
    program, run = tmp_path / "program.py", tmp_path / "run"
    program.write_text(ENDED_WORKER)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
         program, data_root / "tiny", run],
        capture_output=True,
        text=True,
        env=environment,
        timeout=90,
    )  # fmt: skip
    assert done.returncode != 0 and f"stopped: --resume {run}" in done.stderr
    progress = checkpoint.load(run / "last.pkl").training["progress"]
    assert (progress["epoch"], progress["step"]) == (2, 1)


# --- trouble --------------------------------------------------------------------------------------


def test_validation_counts_at_the_size_asked_for(data_root):
    samples = PairDataset(data_root / "tiny" / "trainval")

    class Certain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.parameter = torch.nn.Parameter(torch.zeros(1))

        def target(self, images):
            return (images > 0.5).float() - 0.5

    counts = trainer.validate(Certain(), samples, [2, 5], replace(RECIPE, crop_size=32))
    assert (counts.n_images, counts.n_pixels, counts.n_hits) == (2, 2 * 40 * 48, 2)
    assert counts.tp_px == 18 and counts.fp_px == counts.fn_px == 0
    resized = trainer.validate(Certain(), samples, [2, 5], replace(RECIPE, image_size=24))
    assert resized.n_pixels == 2 * 24 * 24


def test_masks_that_are_all_empty_stop_it_before_anything_is_written(data_root, tmp_path):
    for path in (data_root / "tiny" / "trainval" / "masks").iterdir():
        cv2.imwrite(str(path), np.zeros((40, 48), np.uint8))
    with pytest.raises(InputError, match="every mask to train on is empty"):
        train(data_root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_target_where_one_is_needed_stops_it(data_root, tmp_path):
    masks = data_root / "tiny" / "test" / "masks"
    for path in masks.iterdir():
        cv2.imwrite(str(path), np.zeros((40, 48), np.uint8))
    with pytest.raises(InputError, match="no target in the 4 masks that choose the best epoch"):
        train(data_root, tmp_path / "run", selection="test")
    assert not (tmp_path / "run").exists()
    first, second, *_ = sorted(masks.iterdir())
    cv2.imwrite(str(second), np.zeros((9, 9), np.uint8))
    with pytest.raises(InputError, match=f"{second.name}: 9x9 px, but its image has 48x40 px"):
        train(data_root, tmp_path / "run")  # not after days of training
    assert not (tmp_path / "run").exists()
    first.unlink()
    with pytest.raises(InputError, match="no mask for"):
        train(data_root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_test_split_that_breaks_in_the_meantime_costs_nothing(data_root, tmp_path, monkeypatch):
    mask = data_root / "tiny" / "test" / "masks" / "test0.png"
    content, step = mask.read_bytes(), trainer.train_step

    def breaking(*arguments):
        mask.write_bytes(b"no image")
        return step(*arguments)

    monkeypatch.setattr(trainer, "train_step", breaking)
    run = tmp_path / "run"
    with pytest.raises(InputError, match=r"test0.png: .*; --resume .*run scores them then"):
        train(data_root, run, epochs=1)
    mask.write_bytes(content)
    train(data_root, run, epochs=1, resume=True)
    assert json.loads((run / "test.json").read_text())["epoch"] == 1


def test_a_gradient_that_stays_infinite_in_fp16_stops_it(monkeypatch):
    runtime = Runtime(torch.device("cpu"))
    trainee = trainer.Trainee(RECIPE, runtime, trainer.TrainingGroup.alone(), per_epoch=2)
    monkeypatch.setattr(
        "utils.training.step.clip_grad_norm_", lambda *a: torch.tensor(float("inf"))
    )
    images = torch.rand(2, 1, 32, 32)
    for scale, finite in ((65536.0, True), (0.5, False)):
        trainee.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        values = trainer.train_step(trainee, RECIPE, runtime, images, (images > 0.9).float())
        assert np.isfinite(values["loss"]) == finite


def test_a_loss_that_is_not_finite_stops_it_with_the_names(data_root, tmp_path, monkeypatch):
    step, calls = trainer.train_step, []

    def poisoned(trainee, recipe, runtime, images, masks, *rest):
        calls.append(1)
        return step(
            trainee, recipe, runtime, images * (np.nan if len(calls) == 4 else 1), masks, *rest
        )

    monkeypatch.setattr(trainer, "train_step", poisoned)
    message = r"not finite at step 3 on trainval\d+, .*last good weights; try a lower --lr"
    with pytest.raises(InputError, match=message):
        train(data_root, tmp_path / "run")
    last = checkpoint.load(tmp_path / "run" / "last.pkl")
    assert (last.training["progress"]["epoch"], last.training["progress"]["step"]) == (2, 1)

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(*arguments)

    calls.clear()
    monkeypatch.setattr(trainer, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(data_root, tmp_path / "good", save_minutes=0)
    good = checkpoint.load(tmp_path / "good" / "last.pkl")
    assert torch.equal(everything(last), everything(good))


def test_maps_that_are_not_finite_in_validation_stop_it_with_the_name(
    data_root, tmp_path, monkeypatch
):
    step = trainer.train_step

    def poisoned(trainee, *arguments):
        values = step(trainee, *arguments)
        for name, buffer in trainee.net.named_buffers():
            if name.endswith("running_var"):
                buffer.fill_(float("nan"))
        return values

    monkeypatch.setattr(trainer, "train_step", poisoned)
    message = r"the map of trainval\d+ has NaN or infinity: .* with a lower --lr"
    with pytest.raises(InputError, match=message):
        train(data_root, tmp_path / "run")


def test_a_batch_of_a_single_value_is_refused_before_anything_is_written(data_root, tmp_path):
    with pytest.raises(InputError, match="more than one value"):
        train(data_root, tmp_path / "run", batch_size=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
def test_an_image_that_is_gone_is_named_by_the_worker_in_one_line(data_root, tmp_path, monkeypatch):
    check = PairDataset.check

    def then_remove(samples):
        found = check(samples)
        for pair in samples.pairs:
            pair.image.write_bytes(b"") if pair.image.exists() else None
        return found

    monkeypatch.setattr(PairDataset, "check", then_remove)
    with pytest.raises(InputError, match=r"trainval\d+\.png: not an image") as error:
        train(data_root, tmp_path / "run", workers=1)
    assert "\n" not in str(error.value)


@forked
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_worker_that_dies_is_reported_with_its_files(data_root, tmp_path, monkeypatch):
    item, here = trainer.TrainingView.__getitem__, os.getpid()

    def dying(view, draw):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return item(view, draw)

    monkeypatch.setattr(trainer.TrainingView, "__getitem__", dying)
    monkeypatch.setattr(
        trainer, "DataLoader", lambda *a, **k: torch.utils.data.DataLoader(
            *a, **k, multiprocessing_context="fork"
        )
    )  # fmt: skip
    with pytest.raises(InputError, match=r"died at one of .*trainval\d+\.png, .*--workers 0"):
        train(data_root, tmp_path / "run", workers=1)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_worker_that_does_not_start_is_one_line(data_root, tmp_path, monkeypatch):
    def fail(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", fail)
    with pytest.raises(InputError, match="--workers 1: a process did not start .*; use fewer"):
        train(data_root, tmp_path / "run", workers=1)


def test_signals_are_left_alone_outside_the_main_thread(data_root, tmp_path):
    errors = []

    def work():
        try:
            train(data_root, tmp_path / "run", epochs=1)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors and (tmp_path / "run" / "best.pkl").exists()


def test_an_ablation_is_trained_and_kept_as_one(data_root, tmp_path):
    run = tmp_path / "run"
    train(data_root, run, epochs=1, without="gates")
    saved = checkpoint.load(run / "best.pkl")
    assert saved.net.config["without"] == "gates"
    with pytest.raises(InputError, match="trained with --without gates; leave out --without"):
        new_plan("tiny", data_root, None, {"without": "soa"}, run / "best.pkl", None)


@pytest.fixture
def two_sets(data_root):
    """The tiny set, and one of three images that it does not hold."""
    other = data_root / "other" / "trainval"
    for kind in ("images", "masks"):
        (other / kind).mkdir(parents=True)
        for i in range(3):
            shutil.copy(data_root / "tiny/trainval" / kind / f"trainval{i}.png", other / kind)
    for path in (other / "images").iterdir():
        path.write_bytes(cv2.imencode(".png", 255 - cv2.imread(str(path), 0))[1].tobytes())
    return data_root


def test_further_sets_are_for_training_alone(two_sets, tmp_path):
    alone, run = tmp_path / "alone", tmp_path / "run"
    train(two_sets, alone, epochs=1)
    first = everything(train(two_sets, run, epochs=1, also="other"))
    log = (run / "log.txt").read_text()
    assert "tiny: 11 images to train on and as many of the 3 of other, 1 held out" in log
    assert "batches of 4, 5 an epoch" in log
    assert (run / "split.json").read_text() == (alone / "split.json").read_text()
    config = json.loads((run / "config.json").read_text())
    assert config["data_sha256 of other"] != config["data_sha256"]
    assert not torch.equal(first, everything(checkpoint.load(alone / "last.pkl")))

    (two_sets / "other/trainval/images/trainval0.png").write_bytes(
        cv2.imencode(".png", np.full((40, 48), 7, np.uint8))[1].tobytes()
    )
    with pytest.raises(InputError, match="the data set has changed"):
        train(two_sets, run, resume=True, epochs=1, also="other")


def test_images_of_further_sets_that_are_to_be_validated_or_tested_on_are_left_out(
    two_sets, tmp_path
):
    test, other = two_sets / "tiny/test", two_sets / "other/trainval"
    for kind in ("images", "masks"):
        name = next(iter(sorted((test / kind).iterdir()))).name
        turned = cv2.imread(str(test / kind / name), 0)[:, ::-1]
        (other / kind / "leak.png").write_bytes(cv2.imencode(".png", turned)[1].tobytes())
    train(two_sets, tmp_path / "alone", epochs=1)
    (held_out,) = json.loads((tmp_path / "alone/split.json").read_text())["validation"]
    for kind in ("images", "masks"):
        turned = cv2.imread(str(two_sets / "tiny/trainval" / kind / f"{held_out}.png"), 0).T
        (other / kind / "leak2.png").write_bytes(cv2.imencode(".png", turned)[1].tobytes())
    train(two_sets, tmp_path / "run", epochs=1, also="other")
    log = (tmp_path / "run/log.txt").read_text()
    assert "as many of the 3 of other" in log
    assert "nearly images of validation or test: 2 (other/leak, other/leak2)" in log

    for kind in ("images", "masks"):
        for i in range(3):
            (other / kind / f"trainval{i}.png").unlink()
    with pytest.raises(InputError, match="--also other: every image is nearly one that tiny keeps"):
        train(two_sets, tmp_path / "again", epochs=1, also="other")


def test_with_further_sets_a_test_split_may_not_come_later(two_sets, tmp_path):
    test = two_sets / "tiny/test"
    test.rename(tmp_path / "test")
    train(two_sets, tmp_path / "run", epochs=1, also="other")
    train(two_sets, tmp_path / "alone", epochs=1)
    (tmp_path / "test").rename(test)
    train(two_sets, tmp_path / "alone", resume=True, epochs=1)
    with pytest.raises(InputError, match="the data set has changed"):
        train(two_sets, tmp_path / "run", resume=True, epochs=1, also="other")


def test_further_sets_from_a_cache_give_the_same(two_sets, tmp_path):
    def weights(name, cache):
        runtime = Runtime(torch.device("cpu"), cache=cache)
        recipe, folder = replace(RECIPE, epochs=1, also="other"), two_sets / "tiny"
        others = [two_sets / "other"]
        trainer.train(recipe, folder, tmp_path / name, others=others, runtime=runtime)
        return everything(checkpoint.load(tmp_path / name / "last.pkl"))

    assert torch.equal(weights("a", None), weights("b", tmp_path / "cache"))
    names = {path.name for path in (tmp_path / "cache").iterdir()}
    assert names == {"trainval.bin", "test.bin", "other-trainval.bin"}


@pytest.mark.parametrize(
    "also, message",
    [
        ("tiny", "--also tiny: .*tiny is trained on already; name it once"),
        ("other,Other", "trained on already"),
        ("elsewhere", "--also elsewhere: no data set elsewhere in .*; --also none does without"),
    ],
)
def test_further_sets_that_cannot_be(two_sets, also, message):
    with pytest.raises(InputError, match=message):
        new_plan("tiny", two_sets, None, {"also": also}, None, None)
    plan = new_plan("tiny", two_sets, None, {"also": "other"}, None, None)
    assert plan.others == [two_sets / "other"]
