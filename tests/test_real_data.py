"""The published counts of the real data sets, where they lie beside the repository."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.data.check import check
from utils.data.dataset import PairDataset, list_images
from utils.data.images import encode_png, read_levels, read_mask, resize
from utils.files import write_bytes
from utils.metrics.job import Method
from utils.metrics.job import run as evaluate_methods
from utils.metrics.matching import components
from utils.metrics.protocols import CORRECTED, PUBLISHED

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.parametrize(
    "name, trainval, test, targets, targets_at_256",
    [
        ("NUDT-SIRST", 663, 664, 945, 945),
        ("IRSTD-1k", 800, 201, 297, 291),
        ("SIRST", 341, 86, 109, 109),
    ],
)
def test_pairs_and_targets(name, trainval, test, targets, targets_at_256):
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not here")
    assert len(PairDataset(DATA / name / "trainval")) == trainval
    assert len(PairDataset(DATA / name / "test")) == test
    masks = [read_mask(path) for path in list_images(DATA / name / "test" / "masks").values()]
    assert sum(len(components(mask).areas) for mask in masks) == targets
    small = (resize(mask, 256, nearest="corner") for mask in masks)
    assert sum(len(components(mask).areas) for mask in small) == targets_at_256


@pytest.mark.parametrize(
    "name, targets, grey, near_across",
    [
        ("NUDT-SIRST", (918, 945), 0, 44),
        ("IRSTD-1k", (1195, 297), 85, 10),
        ("SIRST", (424, 109), 0, 0),
    ],
)
def test_the_check_finds_what_is_known(name, targets, grey, near_across):
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not here")
    report = check(DATA / name)
    assert not report.errors
    for split, count in zip(("trainval", "test"), targets, strict=True):
        assert sum(len(image.areas) for image in report.of(split)) == count
    assert sum(image.mask_values == "grey" for image in report.images) == grey
    across = [f.where for f in report.warnings if "in trainval and test" in f.text]
    assert sum(map(len, across)) == near_across


@pytest.mark.parametrize("name, n_images, targets", [("IRSTD-1k", 201, 291), ("SIRST", 86, 109)])
def test_a_classical_method_is_scored(name, n_images, targets, tmp_path, capsys):
    test = DATA / name / "test"
    if not test.is_dir():
        pytest.skip(f"{test} is not here")
    (tmp_path / "tophat").mkdir()
    for stem, path in list_images(test / "images").items():
        bright = cv2.morphologyEx(read_levels(path), cv2.MORPH_TOPHAT, np.ones((9, 9), np.uint8))
        levels = cv2.add(bright, bright)
        write_bytes(tmp_path / "tophat" / f"{stem}_Pred.png", encode_png(levels))
    evaluate_methods(
        [Method("top-hat", tmp_path / "tophat")],
        test / "masks",
        tmp_path / "out",
        images=test / "images",
        protocols=[CORRECTED, PUBLISHED],
        size=256,
        resize=False,
        kind=None,
        seed=0,
        workers=0,
        facts={},
        table="markdown",
        plots=True,
        report=True,
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    for protocol in ("corrected", "published"):
        assert metrics[protocol]["n_images"] == n_images
        assert metrics[protocol]["n_targets"] == targets
    assert metrics["corrected"]["pd"] > 0.25 and metrics["corrected"]["fa"] > 1e-6
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure ") == n_images
    assert "| top-hat |" in capsys.readouterr().out
