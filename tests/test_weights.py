"""The weights in Weight/: each is what its entry says, and gives the figures stated for it."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from utils import checkpoint
from utils.data.dataset import PairDataset
from utils.data.scenes import make_scene
from utils.metrics.counts import figures
from utils.prediction import Predictor
from utils.training.recipes import begins_with, recipe_for
from utils.training.trainer import validate

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"


class Stated(NamedTuple):
    sha256: str
    epoch: int
    # test split, corrected protocol, at the size of training; of every n-th image
    figures: dict[str, float]
    scene: list[tuple[int, int, int]]  # of the detections in a built-in scene: x, y, area
    # what the last part of the training, a run of its own, was told otherwise
    last_part: dict[str, float] = {}
    every: int = 1  # that n: all of a large set take minutes


SHIPPED = {
    "SIRST": Stated(
        "8eb0ba119a1d5fd440661e562ca70a924fc9665596f18f681f42d734b33f7ec2",
        36,
        {"iou": 2694 / 3844, "niou": 0.7925, "pd": 105 / 109, "fa": 236 / 5859794},
        [(69, 14, 10)],
    ),
    "IRSTD-1k": Stated(
        "d8f49945bb90ae962ee7e5a6ebf3ff3c21c91068b6a56bbe99746af2acba2436",
        28,
        {"iou": 2761 / 4670, "niou": 0.5661, "pd": 269 / 291, "fa": 301 / 13172736},
        [(69, 14, 5)],
    ),
    "NUDT-SIRST": Stated(
        "d27861ceb8b2837f78be4e26c2c5486c082360cb59b6de3b3c7a94cfcdf58bc0",
        30,
        {"iou": 6691 / 7239, "niou": 0.9268, "pd": 223 / 228, "fa": 44 / 10878976},
        [(69, 14, 11)],
        {"epochs": 30, "lr": 2e-4, "warmup": 20, "val_every": 5},
        4,
    ),
}


@pytest.fixture(params=SHIPPED)
def shipped(request):
    return request.param, ROOT / "Weight" / request.param / "best.pkl", SHIPPED[request.param]


def test_every_file_is_stated():
    assert {path.parent.name for path in (ROOT / "Weight").glob("*/best.pkl")} == SHIPPED.keys()


def test_what_they_are(shipped):
    name, path, stated = shipped
    assert hashlib.sha256(path.read_bytes()).hexdigest() == stated.sha256
    assert path.stat().st_size <= 25 * 10**6
    assert stated.sha256 in (ROOT / "Weight" / "README.md").read_text(encoding="utf-8")
    loaded = checkpoint.load(path)
    assert not loaded.training and loaded.info["epoch"] == stated.epoch
    # a user's bare command repeats their training; what it was trained without is off, and images
    # of 8 bits always span their full range
    recipe = asdict(recipe_for("default", name)) | stated.last_part
    trained = {"range": "auto", "without": "nothing", "also": "none"} | loaded.info["recipe"]
    assert {k: v for k, v in recipe.items() if k in trained or v} == {
        k: v for k, v in trained.items() if k in recipe or v
    }
    log = path.with_name("log.txt").read_text(encoding="utf-8")
    assert f"test, epoch {stated.epoch}, " in log


def test_what_they_began_with(shipped):
    name, path, stated = shipped
    begun = checkpoint.load(path).info.get("begun_with", {})
    other = begins_with("default", name)
    if stated.last_part:
        assert begun["dataset"] == name and other is None
    else:
        assert begun.get("sha256") == (other and SHIPPED[other].sha256)


def test_a_built_in_scene(shipped):
    _, path, stated = shipped
    found = Predictor(path, "cpu")(make_scene(10_003, 128, 128, scr=(6.0, 16.0)).image)
    places = [(round(d.x), round(d.y), d.area) for d in found.detections]
    assert len(places) == len(stated.scene)
    np.testing.assert_allclose(sorted(places), sorted(stated.scene), atol=2)


def test_the_stated_figures(shipped):
    name, path, stated = shipped
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not here")
    samples = PairDataset(DATA / name / "test")
    net = checkpoint.load(path).net
    scored = range(0, len(samples), stated.every)
    found = figures(validate(net, samples, scored, recipe_for("default", name)))
    for figure, value in stated.figures.items():
        assert found[figure] == pytest.approx(value, rel=0.005), figure
