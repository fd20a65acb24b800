from functools import partial
from pathlib import Path

import numpy as np
import pytest

from utils.data.dataset import PairDataset
from utils.data.images import encode_png


@pytest.fixture
def door(door):
    """The script, for a set named x."""
    return partial(door, "tools.make_scenes", "--name", "x")


def test_scenes_are_made_once(door):
    options = ("--trainval", "2", "--test", "1", "--size", "32", "40", "--targets", "1", "1")
    code, out, _ = door(*options)
    assert code == 0 and "x: written, 3 scenes with 3 targets" in out
    folder = Path("datasets", "x")
    assert PairDataset(folder / "trainval").levels(0)[0].shape == (32, 40)
    assert len((folder / "targets.csv").read_text().splitlines()) == 4
    assert "is there already" in door(*options)[1]
    assert "holds something else" in door(*options, "--seed", "1")[2]
    assert "written" in door(*options, "--seed", "1", "--replace")[1]


def test_a_split_of_no_scenes_has_no_folder(door):
    options = ("--trainval", "1", "--test", "0", "--size", "32", "40", "--targets", "1", "1")
    assert "written" in door(*options)[1] and "is there already" in door(*options)[1]
    assert not Path("datasets", "x", "test").exists()


def test_targets_without_a_place_are_said(door):
    Path("white").mkdir()
    for i in range(2):
        Path("white", f"{i}.png").write_bytes(encode_png(np.full((40, 40), 255, np.uint8)))
    options = ("--trainval", "1", "--test", "1", "--targets", "2", "2")
    code, out, _ = door("--backgrounds", "white", *options)
    assert code == 0 and "2 scenes with 0 targets" in out
    assert "warning: 4 targets found no place" in out


@pytest.mark.parametrize(
    "options, message",
    [
        (("--scr", "5", "4"), "--scr 5 4: LEAST comes first"),
        (("--scr", "0", "4"), "above 0"),
        (("--scr", "4", "101"), "MOST is 100"),
        (("--diameter", "0", "65"), "MOST is 64"),
        (("--blur", "0.1"), "expected 0.3 to 16 px"),
        (("--size", "8", "99"), "expected 16 to 8192 px"),
        (("--trainval", "0", "--test", "0"), "nothing to make"),
        (("--backgrounds", "missing"), "missing: no such folder"),
        (("--psf", "star"), "invalid choice"),
    ],
)
def test_senseless_options(door, options, message):
    code, _, errors = door(*options)
    assert code == 2 and message in errors and errors.count("\n") == 1
    assert not Path("datasets").exists()
