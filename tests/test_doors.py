"""The three scripts as a person runs them: what they print, leave behind and refuse."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from filelock import FileLock
from torch._dynamo.exc import TorchDynamoException

import run_0
from utils import checkpoint, files
from utils.data.images import encode_png, read_levels
from utils.files import sole_writer
from utils.options import InputError
from utils.results import RECORD
from utils.training import record

ROOT = Path(__file__).parents[1]
SMALL = ("--stages", "1", "--width", "1", "--epochs", "1", "--crop-size", "32")


@pytest.fixture
def trained(door, data_root):
    """The current folder after a small training run on ``tiny``."""
    code, out, err = door("run_0", "--dataset", "tiny", "--data-root", data_root, *SMALL)
    assert code == 0, err
    return Path.cwd()


def test_the_whole_way_on_built_in_data(door):
    code, out, _ = door("run_0", *SMALL, "--val-every", "1")
    assert code == 0
    assert out.startswith("No data set in datasets: using built-in scenes. datasets/README.md says")
    (best,) = Path.cwd().glob("runs/builtin/*/best.pkl")
    assert str(best.relative_to(Path.cwd())) in out

    code, out, _ = door("t_models")
    images = sorted(Path("datasets/builtin/test/images").iterdir())
    assert code == 0 and f"{len(images)} predicted" in out
    for path in images:
        shape = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape
        probability = cv2.imread(f"results/builtin/img/{path.stem}.png", cv2.IMREAD_UNCHANGED)
        logits = scipy.io.loadmat(f"results/builtin/mat/{path.stem}.mat")["T"]
        assert probability.shape == logits.shape == shape
        assert probability.dtype == np.uint8 and logits.dtype == np.float32
        np.testing.assert_allclose(probability, 255 / (1 + np.exp(-logits)), atol=0.51)

    code, out, _ = door("cal_from_mask")
    metrics = json.loads(Path("results/builtin/metrics.json").read_text())
    n = metrics["corrected"]["n_targets"]
    assert code == 0 and out.startswith(f"builtin: {len(images)} images, {n} targets, ")
    assert metrics["corrected"]["n_images"] == len(images) and f"/{n} targets" in out
    assert metrics["weights_sha256"] and metrics["dataset"] == "builtin"


def test_prediction_and_score_at_the_size_of_the_paper(trained, door):
    assert door("t_models", "--image-size", "64")[0] == 0
    assert scipy.io.loadmat("results/tiny/mat/test0.mat")["T"].shape == (64, 64)
    code, out, _ = door("cal_from_mask")
    assert code == 0 and "corrected, 64x64" in out and "published, 64x64" in out
    assert "corrected, 32x32" in door("cal_from_mask", "--size", "32")[1]
    out = door("cal_from_mask", "--resize")[1]
    assert "corrected, native size" in out and "published, 256x256" in out
    metrics = json.loads(Path("results/tiny/metrics.json").read_text())
    assert (metrics["resize"], metrics["kind"], metrics["seed"]) == (True, None, 0)


def test_files_of_the_user_beside_an_export_stay(trained, door):
    own = {Path("results/tiny", name) for name in ("figure.png", "notes.csv", "comparison.docx")}
    masks = Path("results/tiny/mask/test0.png")
    masks.parent.mkdir(parents=True)
    for path in own | {masks}:
        path.write_text("mine")
    tables = Path("results/tiny/detections.csv")
    tables.write_text("mine")
    assert door("t_models")[0] == door("cal_from_mask", "--report")[0] == 0
    assert tables.read_text() == "mine"
    assert door("t_models")[0] == 0
    left = {path for path in Path("results/tiny").iterdir() if path.is_file()}
    assert left == own | {Path("results/tiny", name) for name in ("images.jsonl", RECORD)}
    assert masks.read_text() == "mine"


def test_a_project_that_has_moved_is_scored_with_its_own_data_sets(trained, door, data_root):
    assert door("t_models")[0] == 0
    shutil.move(data_root, "datasets")
    assert door("cal_from_mask")[0] == 0 and door("t_models")[0] == 0


def test_scoring_does_not_load_pytorch():
    code = "import cal_from_mask, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_what_is_said_to_be_written_is(trained, door, film):
    weights = ("--weights", next(trained.glob("runs/tiny/*/best.pkl")))
    for options, said in (((), "video, boxes"), (("--save", "mask"), "mask, video, boxes")):
        code, out, err = door("t_models", "--images", film, *weights, *options)
        assert code == 0 and out.endswith(f"in {Path('results/film')}: {said}\n"), err
        assert Path("results/film/mask/film.avi").is_dir() == ("mask" in said)
        assert Path("results/film/detections.csv").exists()


def test_what_is_averaged_over_orientations_says_so(trained, door):
    def figures() -> tuple[bool, np.ndarray]:
        assert door("cal_from_mask")[0] == 0
        tta = json.loads(Path("results/tiny/metrics.json").read_text())["tta"]
        return tta, scipy.io.loadmat("results/tiny/mat/test0.mat")["T"]

    assert door("t_models")[0] == 0
    plain = figures()
    assert door("t_models", "--tta")[0] == 0
    averaged = figures()
    assert (plain[0], averaged[0]) == (False, True)
    assert not np.allclose(plain[1], averaged[1], atol=1e-3)
    code, _, err = door("t_models", "--skip-existing")
    assert code == 2 and "other tta" in err


def test_maps_of_images_that_are_gone_are_removed(trained, door, data_root):
    door("t_models")
    for kind in ("images", "masks"):
        (data_root / "tiny" / "test" / kind / "test3.png").unlink()
    door("t_models")
    assert [path.stem for path in sorted(Path("results/tiny/mat").iterdir())] == [
        "test0",
        "test1",
        "test2",
    ]
    assert door("cal_from_mask")[0] == 0


def test_resume_takes_a_finished_run_as_it_is(trained, door):
    (run,) = trained.glob("runs/tiny/*")
    before = (run / "last.pkl").read_bytes()
    assert door("run_0", "--resume", run)[0] == 0
    assert (run / "last.pkl").read_bytes() == before


def test_one_process_at_a_time_writes_to_a_folder(trained, door, refused, data_root, monkeypatch):
    photos = data_root / "tiny" / "test" / "images"
    monkeypatch.setattr(files, "FileLock", lambda path, timeout: FileLock(path, timeout=0))
    (run,) = trained.glob("runs/tiny/*")
    assert door("t_models")[0] == door("t_models", "--images", photos)[0] == 0
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    for folder, options in (
        (run, ("run_0", "--resume", run)),
        (Path("results/tiny"), ("t_models",)),
        (Path("results", photos.name), ("t_models", "--images", photos)),
    ):
        with sole_writer(folder):
            assert "another process writes to it" in refused(*options)
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_a_run_goes_on_after_its_data_moved_and_is_listed(trained, door, data_root):
    (run,) = trained.glob("runs/tiny/*")
    data_root.rename(data_root.with_name("moved"))
    code, _, err = door("run_0", "--resume", run)
    assert code == 2 and "no data set tiny" in err
    assert door("run_0", "--resume", run, "--data-root", data_root.with_name("moved"))[0] == 0
    shutil.copytree(data_root.with_name("moved") / "tiny", "datasets/tiny")  # with the project
    assert door("run_0", "--resume", run)[0] == 0
    shutil.rmtree("datasets")
    code, out, _ = door("run_0", "--list")
    heading, row = out.splitlines()
    assert code == 0 and heading.split()[:3] == ["run", "recipe", "epochs"]
    assert row.split()[:4] == [str(Path(*run.parts[-3:])), "default", "1/1", "1"]
    for damaged in ("{", '{"recipe": [1]}'):
        (run.with_name("other") / "config.json").parent.mkdir(exist_ok=True)
        (run.with_name("other") / "config.json").write_text(damaged)
        code, out, _ = door("run_0", "--list")
        assert code == 0 and row.split() in map(str.split, out.splitlines()) and "damaged" in out


def test_training_begins_with_weights(trained, door, refused, data_root):
    (best,) = Path.cwd().glob("runs/tiny/*/best.pkl")
    options = ("--dataset", "tiny", "--data-root", data_root, "--weights", best)
    message = refused("run_0", *options, "--stages", "3")
    assert "trained with --stages 1; leave out --stages" in message
    assert "--resume takes no options" in refused("run_0", "--resume", "x", "--weights", best)
    assert "a.pkl: cannot be read" in refused("run_0", *options[:4], "--weights", "a.pkl")
    assert "a.pkl: cannot be read" in refused("run_0", "--weights", "a.pkl")
    assert not Path("datasets").exists()  # before scenes are made
    small = ("--epochs", "1", "--crop-size", "32", "--lr", "1e-12", "--output", "further")
    code, _, err = door("run_0", *options, *small)
    assert code == 0, err
    before, after = checkpoint.load(best), checkpoint.load(Path("further", "best.pkl"))
    for name, parameter in before.net.named_parameters():
        torch.testing.assert_close(after.net.get_parameter(name), parameter, rtol=0, atol=1e-6)
    begun = {"sha256": before.sha256, "dataset": "tiny", "epoch": 1}
    assert after.info["begun_with"] == begun
    assert json.loads(Path("further/config.json").read_text())["begun_with"] == begun
    assert f"begins with weights of SHA-256 {before.sha256}" in Path("further/log.txt").read_text()
    Path("further/last.pkl").unlink()
    assert "before it had saved anything" in refused("run_0", "--resume", "further")


def test_a_recipe_begins_with_shipped_weights_unless_told_otherwise(
    trained, door, refused, data_root
):
    (best,) = Path.cwd().glob("runs/tiny/*/best.pkl")
    (data_root / "tiny").rename(data_root / "SIRST")
    options = ("--dataset", "SIRST", "--data-root", data_root)
    shipped = Path("Weight", "NUDT-SIRST", "best.pkl")
    said = refused("run_0", *options)
    assert f"{shipped}: no such file, with which the recipe begins; start in the project's" in said
    shipped.parent.mkdir(parents=True)
    shutil.copy(best, shipped)
    message = refused("run_0", *options, "--stages", "3")
    start = f"{shipped}: trained with --stages 1; leave out --stages, or begin with "
    assert f"{start}--weights random" in message
    small = ("--epochs", "1", "--crop-size", "32", "--output")
    assert door("run_0", *options, *small, "as-shipped")[0] == 0
    begun = checkpoint.load(Path("as-shipped", "best.pkl")).info["begun_with"]
    assert begun["sha256"] == checkpoint.load(best).sha256
    assert door("run_0", *options, *SMALL, "--weights", "random", "--output", "anew")[0] == 0
    assert "begun_with" not in checkpoint.load(Path("anew", "best.pkl")).info


def test_the_options_of_running_reach_the_trainer(trained, door, data_root, monkeypatch):
    found, train = {}, run_0.train
    monkeypatch.setattr(run_0, "train", lambda *a, **how: found.update(how) or train(*a, **how))
    options = ("--data-root", data_root, *SMALL, "--output", "run")
    code, _, err = door(
        "run_0", "--dataset", "tiny", *options, "--workers", "1", "--save-minutes", "2",
        "--precision", "bf16", "--no-kernels",
    )  # fmt: skip
    assert code == 0 and not found["resume"] and not found["finish"], err
    runtime = found["runtime"]
    assert (runtime.workers, runtime.save_minutes, runtime.precision) == (1, 2, "bf16")
    code, _, err = door("run_0", "--resume", "run", "--finish", "--workers", "0")
    assert code == 0 and found["resume"] and found["finish"], err


def test_every_value_says_where_it_came_from(trained):
    (run,) = trained.glob("runs/tiny/*")
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["crop_size"] == 32 and config["recipe"]["batch_size"] == 8
    assert config["origin"]["crop_size"] == "command line"
    assert config["origin"]["batch_size"] == "recipe default" == "recipe " + config["recipe_name"]


@pytest.mark.parametrize("place", ["set", "elsewhere"])
def test_a_cache_changes_nothing_but_the_time(trained, door, data_root, place):
    where = [] if place == "set" else [Path.cwd() / "fast"]
    options = ("--dataset", "tiny", "--data-root", data_root, "--output", "cached", *SMALL)
    assert door("run_0", *options, "--cache", *where)[0] == 0
    folder = data_root / "tiny" / "cache" if place == "set" else Path("fast", "tiny")
    assert [path.name for path in folder.iterdir()] == ["trainval.bin"]
    (run,) = trained.glob("runs/tiny/*")
    for name in ("test.json", "split.json"):
        assert (run / name).read_bytes() == Path("cached", name).read_bytes()
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            checkpoint.load(run / "best.pkl").net.state_dict().values(),
            checkpoint.load(Path("cached", "best.pkl")).net.state_dict().values(),
            strict=True,
        )
    )


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(record, "datetime", Clock)
    folders = [record.new_run_folder(tmp_path / "runs", "tiny") for _ in range(3)]
    assert [folder.name[15:] for folder in folders] == ["", "-2", "-3"]
    assert all(folder.is_dir() for folder in folders)
    (tmp_path / "link").symlink_to(tmp_path / "unmounted")
    with pytest.raises(InputError, match="cannot be written"):
        record.new_run_folder(tmp_path / "link", "tiny")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "batches of 8, .* smaller"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "batches of 8, .* smaller"),
        (TorchDynamoException("\nno compiler\nat all"), "--compile: no compiler; leave it out"),
    ],
)
def test_what_a_machine_cannot_do_is_one_line(refused, data_root, monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(run_0, "train", fail)
    options = ("--dataset", "tiny", "--data-root", data_root, "--compile")
    assert re.search(message, refused("run_0", *options))


def test_no_run_to_list(door, refused):
    assert door("run_0", "--list")[1] == "no run in runs\n"
    assert "takes no other" in refused("run_0", "--list", "--epochs", "5")


def test_an_unknown_data_set_lists_those_there_are(refused, data_root):
    for script in ("run_0", "t_models"):
        errors = refused(script, "--dataset", "lion", "--data-root", data_root)
        assert "no data set lion" in errors and "found there: tiny" in errors


def test_unknown_and_senseless_options(refused, data_root):
    assert "--speed" in refused("run_0", "--speed", "9")
    assert "from 1 to" in refused("run_0", "--epochs", "0")
    assert "above 0" in refused("run_0", "--lr", "-1")
    assert "not usable here" in refused("run_0", "--device", "abacus")
    assert "--resume takes no options" in refused("run_0", "--resume", "x", "--lr", "1")
    assert "--resume takes no options" in refused("run_0", "--resume", "x", "--recipe", "demo")
    tiny = ("--data-root", data_root, "--dataset", "tiny")
    assert "no effect here without --crop-size 0" in refused("run_0", *tiny, "--image-size", "32")
    assert "needs a GPU" in refused("run_0", *tiny, "--device", "cpu", "--precision", "fp16")
    assert "for one GPU" in refused("run_0", *tiny, "--device", "cpu", "--graph")
    assert "for a GPU" in refused("run_0", *tiny, "--device", "cpu", "--kernels")
    assert "with --resume" in refused("run_0", *tiny, "--finish")
    auto = refused("run_0", *tiny, "--device", "cpu", "--batch-size", "auto")
    assert "measures a GPU's memory" in auto
    assert "no run folder" in refused("run_0", "--resume", data_root)
    assert "exists already" in refused(
        "run_0", "--output", data_root, "--data-root", data_root, "--dataset", "tiny"
    )


def damage_size(split):
    path = split / "masks" / f"{split.name}1.png"
    path.write_bytes(encode_png(np.zeros((3, 3), np.uint8)))
    return f"{path}: 3x3 px, but its image has 48x40"


def damage_text(split):
    path = split / "images" / f"{split.name}1.png"
    path.write_bytes(b"no image")
    return f"{path}: not an image"


def test_a_damaged_data_set_is_refused_before_training(refused, data_root):
    message = damage_size(data_root / "tiny" / "trainval")
    assert message in refused("run_0", "--dataset", "tiny", "--data-root", data_root, *SMALL)


def test_an_image_that_does_not_decode_leaves_no_prediction(trained, refused, data_root):
    message = damage_text(data_root / "tiny" / "test")
    assert message in refused("t_models")


def test_weights_that_are_not_there(trained, refused, tmp_path):
    assert "cannot be read" in refused("t_models", "--weights", tmp_path / "w.pkl")


def test_published_weights_predict_the_set_they_lie_under(door, data_root):
    shapes = json.loads((ROOT / "tests" / "data" / "published_checkpoint.json").read_text())
    state = {k: torch.zeros(s) for k, s in shapes.items() if k.startswith("decos.0.")}
    Path("datasets").mkdir()
    for name in ("NUDT-SIRST", "irstd1k"):
        shutil.copytree(data_root / "tiny", Path("datasets", name))
    Path("Weight/IRSTD-1k").mkdir(parents=True)
    torch.save(state, "Weight/IRSTD-1k/best.pkl")
    code, out, err = door("t_models")
    assert code == 0 and "predicting datasets/irstd1k/test" in Path(out).as_posix(), err
    assert door("t_models", "--dataset", "irstd1k")[0] == 0


def test_a_data_set_is_predicted_in_the_range_it_was_trained_in(door, data_root):
    for path in data_root.glob("tiny/*/images/*.png"):
        levels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        path.write_bytes(encode_png(levels.astype(np.uint16) + 3000))
    root = ("--data-root", data_root)
    for options, stated in (((), "auto"), (("--range", "full"), "full")):
        assert door("run_0", "--dataset", "tiny", *root, *SMALL, *options)[0] == 0
        assert door("t_models", "--save", "img", "overlay")[0] == 0
        image = cv2.imread("results/tiny/overlay/test0.png", cv2.IMREAD_UNCHANGED)
        assert (image.max() - image.min() > 200) == (stated == "auto")


def test_weights_that_predict_no_numbers_are_refused(trained, door):
    (path,) = trained.glob("runs/tiny/*/best.pkl")
    content = torch.load(path, weights_only=True)
    for value in content["weights"].values():
        value.fill_(float("nan") if value.is_floating_point() else 0)
    torch.save(content, path)
    code, _, err = door("t_models")
    assert code == 2 and "NaN or infinity: the weights are damaged" in err
    assert "interrupted" in door("cal_from_mask")[2]


def test_maps_of_unknown_origin_are_not_mixed_with_an_export(trained, refused, door):
    door("t_models")
    door("cal_from_mask", "--report")
    assert Path("results/tiny/report.html").is_file()
    door("t_models")
    assert {p.name for p in Path("results/tiny").iterdir()} == {
        "img",
        "mat",
        "images.jsonl",
        "predictions.json",
    }
    scipy.io.savemat("results/tiny/mat/old.mat", {"T": np.zeros((2, 2))})
    assert "1 maps of unknown origin (such as old.mat)" in refused("t_models")


def test_a_record_says_the_truth_about_maps(trained, door, refused):
    door("t_models")
    door("cal_from_mask", "--report")
    (weights,) = trained.glob("runs/tiny/*/best.pkl")
    content = torch.load(weights, weights_only=True)
    content["info"]["epoch"] = 9
    torch.save(content, "other.pkl")
    before = sorted(Path("results").rglob("*"))
    # a job that cannot go on with them leaves them as they are
    other = ("--weights", "other.pkl", "--dataset", "tiny")
    root = json.loads((weights.parent / "config.json").read_text())["data_root"]
    other = (*other, "--data-root", root)
    assert "other weights_sha256" in refused("t_models", *other, "--skip-existing")
    assert sorted(Path("results").rglob("*")) == before and door("cal_from_mask")[0] == 0
    assert "other image size" in refused("t_models", "--image-size", "64", "--skip-existing")
    # what is scored is always of the weights that the record names
    assert door("t_models", *other, "--save", "mask")[0] == 0
    written = {path.parent.name for path in Path("results/tiny").glob("*/*")}
    assert written == {"mask", "mat"}


def test_photos(trained, door, data_root):
    photos = Path("photos")
    shutil.copytree(data_root / "tiny" / "test" / "images", photos / "day 1")
    code, out, err = door("t_models", "--images", photos)
    assert code == 0 and "4 predicted" in out, err
    assert sorted(p.name for p in Path("results/photos/img/day 1").iterdir()) == [
        f"test{i}.png" for i in range(4)
    ]
    (photos / "cut.png").write_bytes(encode_png(np.zeros((9, 9), np.uint8))[:40])
    code, out, err = door("t_models", "--images", photos, "--save", "mask", "boxes")
    assert code == 1 and "4 predicted" in out and "cut.png: not an image" in err
    assert "1 skipped, see" in err
    code, _, err = door("t_models", "--images", photos, "--strict", "--results", "strict")
    assert code == 2 and err.splitlines()[-1].startswith("error: ") and "cut.png" in err


def test_weights_for_resized_images_say_so(trained, door, data_root):
    weights = next(Path("runs").rglob("best.pkl"))
    loaded = checkpoint.load(weights)
    images = data_root / "tiny" / "test" / "images"
    note = "trained on whole images of 32x32 px"
    for size, given, said in (
        (32, (), True),
        (32, ("--image-size", "0"), False),
        (None, (), False),
    ):
        checkpoint.save(weights, loaded.net, loaded.info | {"image_size": size}, {})
        code, _, err = door("t_models", "--images", images, "--weights", weights, *given)
        assert code == 0 and (note in err) == said


def test_one_name_may_mean_a_data_set(trained, door, refused, data_root):
    images = data_root / "tiny" / "test" / "images"
    (images / "test9.png").write_bytes(b"no image")  # in a photograph's way, passed over
    options = ("--data-root", data_root, "--range", "percentile", "--image-size", "32")
    code, out, err = door("t_models", "--images", "TINY", *options, "--save", "mask", "boxes")
    assert code == 1 and "best.pkl: predicting 5 files" in out and "test9.png" in err
    predicted = sorted(Path("results/tiny_test/mask").iterdir())
    assert [path.stem for path in predicted] == [f"test{i}" for i in range(4)]
    assert read_levels(predicted[0]).shape == read_levels(images / "test0.png").shape
    (images / "test9.png").unlink()
    both = ("tiny", data_root / "tiny" / "test" / "images" / "test0.png", "--split", "trainval")
    code, out, err = door("t_models", "--images", *both, "--data-root", data_root)
    assert code == 0 and len(list(Path("results/tiny_trainval/mat").iterdir())) == 13, err
    shutil.copytree(images, "tiny")  # a folder goes first, but not over the maps of a data set
    door("t_models", "--data-root", data_root)
    assert "or the maps of a data set" in refused("t_models", "--images", "tiny")
    assert "no such file, folder or data set" in refused("t_models", "--images", "lion")
    assert re.search("cannot be read|no such", refused("t_models", "--images", "a" * 300 + ".png"))
    assert "--range is for --images" in refused("t_models", "--range", "full")
    assert "not auto, full" in refused("t_models", "--images", "tiny", "--range", "5,5")
    assert "--split is for data sets" in refused("t_models", "--images", "tiny", "--split", "test")
    for images in (["tiny"], ["tiny/test0.png", "tiny/test1.png"], ["tiny/*.png"]):
        errors = refused("t_models", "--images", *images, "--results", ".")
        assert "the images themselves" in errors
    assert "not allowed with" in refused("t_models", "--images", "tiny", "--dataset", "tiny")


def test_no_weights_and_no_predictions(refused):
    assert "no weights for any data set" in refused("t_models")
    assert "run t_models.py" in refused("cal_from_mask")


def test_results_for_other_images_than_the_masks(trained, refused, door):
    door("t_models")
    assert "made for other images" in refused("cal_from_mask", "--split", "trainval")


def test_an_export_that_was_cut_off_is_not_scored(trained, refused, door):
    door("t_models")
    record = Path("results/tiny/predictions.json")
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"complete": False}))
    assert "interrupted; run t_models.py again" in refused("cal_from_mask")


def test_methods_of_others_are_compared(trained, door, data_root):
    door("t_models")
    masks = data_root / "tiny" / "test" / "masks"
    code, out, err = door(
        "cal_from_mask", "--predictions", "ours=results/tiny/mat", "pictures=results/tiny/img",
        "--masks", masks, "--table", "latex", "--plots", "--report", "--workers", "1",
        "--protocols", "dnanet", "corrected",
    )  # fmt: skip
    assert code == 0, err
    assert "dnanet, 256x256:" in out and out.count(r"\begin{tabular}") == 2
    output = Path("results/scores")
    for name in ("ours", "pictures"):
        assert {path.name for path in (output / name).iterdir()} == {
            "metrics.json", "per_image.csv", "per_target.csv", "curve.csv", "report.html",
        }  # fmt: skip
        assert "dnanet" in json.loads((output / name / "metrics.json").read_text())
    assert (output / "roc.png").is_file()
    # the newest export is still that of t_models.py
    assert door("cal_from_mask")[1].startswith("tiny: ")
    # a score leaves no pages or pictures of the one before it
    door("cal_from_mask", "--predictions", "ours=results/tiny/mat", "pictures=results/tiny/img",
         "--masks", masks)  # fmt: skip
    assert not list(output.rglob("*.png")) and not list(output.rglob("report.html"))
    # nor of another method
    for name, folder in (("A", "mat"), ("B", "img")):
        code, out, err = door("cal_from_mask", "--predictions", f"{name}=results/tiny/{folder}",
                              "--masks", masks)  # fmt: skip
        assert code == 0 and f"written to {output / name / 'metrics.json'}" in out, err
    assert (output / "A" / "metrics.json").is_file()


def test_what_the_options_of_scoring_say(trained, door, data_root):
    masks = data_root / "tiny" / "test" / "masks"
    Path("maps").mkdir()
    for mask in masks.iterdir():
        true = read_levels(mask) > 0
        np.save(Path("maps") / f"{mask.stem}.npy", np.where(true, 0.6, 0.4))
    Path("list.txt").write_text("test0\ntest2\n")
    given = ["--predictions", "maps", "--masks", masks, "--seed", "3", "--list", "list.txt"]
    given += ["--report", "--images", masks.parent / "images", "--protocols", "corrected"]
    for kind, iou in (("probabilities", 1.0), ("logits", 18 / (2 * 40 * 48))):
        code, _, err = door("cal_from_mask", *given, f"--{kind}")
        found = json.loads(Path("results/scores/maps/metrics.json").read_text())
        assert code == 0 and (found["kind"], found["seed"]) == (kind, 3), err
        assert (found["list"], found["corrected"]["n_images"]) == ("list.txt", 2)
        assert found["corrected"]["iou"] == pytest.approx(iou)


def test_options_of_scoring_that_would_not_be_read(refused, tmp_path):
    given = ("--predictions", "maps", "--masks", tmp_path)
    for option in ("--dataset", "--data-root"):
        assert f"{option} has no effect" in refused("cal_from_mask", *given, option, "x")
    assert "--split has no effect" in refused("cal_from_mask", *given, "--split", "test")
    assert "--images has no effect" in refused("cal_from_mask", *given, "--images", tmp_path)


def test_what_the_options_of_prediction_say(trained, door, data_root):
    door("t_models", "--split", "trainval")
    assert json.loads(Path("results/tiny/predictions.json").read_text())["split"] == "trainval"
    assert len(list(Path("results/tiny/mat").iterdir())) == 12
    images = data_root / "tiny" / "test" / "images"
    code, _, err = door(
        "t_models", "--images", images, "--threshold", "0.3", "--min-area", "2", "--precision",
        "bf16", "--range", "10,200", "--image-size", "32",
    )  # fmt: skip
    assert code == 0, err
    (first, *_) = Path("results/images/images.jsonl").read_text().splitlines()
    settings = json.loads(first)["settings"]
    wanted = {"threshold": 0.3, "min area": 2, "level range": [10, 200], "image size": 32}
    assert settings | wanted | {"precision": "bf16"} == settings


def test_a_folder_may_have_an_equals_sign(trained, door, data_root, monkeypatch):
    door("t_models")
    masks = data_root / "tiny" / "test" / "masks"
    Path("lr=1").mkdir()
    Path("results/tiny/mat").rename("lr=1/mat")
    for predictions, name in (
        ("lr=1/mat", "lr=1"), (Path("lr=1/mat").resolve(), "lr=1"), ("a=lr=1/mat", "a"),
    ):  # fmt: skip
        code, out, err = door("cal_from_mask", "--predictions", predictions, "--masks", masks)
        assert code == 0 and out.startswith(f"{name}: "), err
    # here, in the folder of the masks
    maps = Path("lr=1/mat").resolve()
    monkeypatch.chdir(masks)
    options = ("--predictions", maps, "--masks", ".", "--output", maps.parent / "scores")
    assert door("cal_from_mask", *options)[0] == 0


def test_senseless_methods(refused, tmp_path):
    masks = ("--masks", tmp_path)
    assert "--masks or --dataset" in refused("cal_from_mask", "--predictions", "a")
    assert "NAME= of its own" in refused("cal_from_mask", "--predictions", "a", "b/a", *masks)
    assert "NAME= of its own" in refused("cal_from_mask", "--predictions", "A=x", "a=y", *masks)
    assert "fit for a folder" in refused("cal_from_mask", "--predictions", "..=x", *masks)
    assert "no file in it" in refused("cal_from_mask", "--predictions", "a", *masks)
    assert "not allowed with" in refused("cal_from_mask", "--size", "9", "--resize")
    assert "from 1 to 16384" in refused("cal_from_mask", "--size", "99999")


def test_folders_that_cannot_be_written(trained, refused, data_root):
    Path("taken").write_text("")
    options = ("--dataset", "tiny", "--data-root", data_root, *SMALL)
    assert "cannot be written" in refused("run_0", *options, "--output", "taken/run")
    assert "cannot be written" in refused("t_models", "--results", "taken")


def test_results_are_not_written_into_the_data_set(trained, refused, data_root):
    (data_root / "tiny" / "targets.csv").write_text("of the data set")
    options = ("--dataset", "tiny", "--data-root", data_root, "--results", data_root)
    assert "holds the data set itself" in refused("t_models", *options)
    assert (data_root / "tiny" / "targets.csv").exists()


@pytest.mark.parametrize("script", ["run_0", "t_models", "cal_from_mask"])
def test_a_fresh_process_explains_itself(script, tmp_path):
    command = [sys.executable, str(ROOT / f"{script}.py")]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 0 and "--data-root" in shown.stdout
    failed = subprocess.run([*command, "--what"], capture_output=True, text=True, cwd=tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: unrecognized arguments: --what")
    assert not list(tmp_path.iterdir())
