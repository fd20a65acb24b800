import hashlib
import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.utils.data.published import LAYOUTS, packed, pairs, write
from utils.data.dataset import PairDataset
from utils.data.images import encode_png


@pytest.fixture
def door(door):
    return partial(door, "tools.prepare_dataset")


def test_a_set_is_prepared_and_checked(door):
    Path("IRSTD-1k.zip").write_bytes(packed(LAYOUTS["IRSTD-1k"], ".zip"))
    code, out, _ = door("IRSTD-1k.zip", "--name", "IRSTD-1k", "--dry-run")
    assert code == 0 and "would be written, 4 pairs in trainval, 2 in test" in out
    assert not Path("datasets").exists()
    code, out, _ = door("IRSTD-1k.zip", "--name", "IRSTD-1k")
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("IRSTD-1k.zip: IRSTD1k_Img/, IRSTD1k_Label/")
    assert lines[1].endswith("IRSTD-1k: written, 4 pairs in trainval, 2 in test")
    assert "IRSTD-1k was published with 800 / 201" in lines[2]
    assert "is there already" in door("IRSTD-1k.zip", "--name", "IRSTD-1k")[1]
    code, out, _ = door("--check", "irstd1k")
    assert code == 0 and "4 / 2 images" in out and "error" not in out
    folder = Path("datasets", "IRSTD-1k")
    assert len(json.loads((folder / "manifest.json").read_text())["files"]) == 12
    assert cv2.imread(str(folder / "contact_sheet.png")).shape == (216, 1600, 3)


def test_a_wrong_set_has_exit_code_1_and_can_be_reported_elsewhere(door):
    write(Path("data", "mine"), LAYOUTS["ours"] | {"test/images/b9.png": b"text"})
    code, out, _ = door("--check", "mine", "--data-root", "data", "--output", "report")
    wrong = Path("data/mine/test/images/b9.png")
    assert code == 1 and f"error: {wrong}: not an image" in out
    assert sorted(p.name for p in Path("report").iterdir()) == [
        "contact_sheet.png",
        "manifest.json",
    ]
    assert not (Path("data") / "mine" / "manifest.json").exists()
    files = json.loads(Path("report", "manifest.json").read_text())["files"]
    assert len(files) == 12 and files["test/images/b9.png"] == hashlib.sha256(b"text").hexdigest()


def test_splits_that_are_given(door):
    write(Path("source"), pairs("images", "masks"))
    assert door("source", "--name", "drawn", "--split", "0.5", "--seed", "3")[0] == 0
    assert len(PairDataset(Path("datasets", "drawn", "test"))) == 3
    code, _, err = door("source", "--name", "none", "--split", "0.05")
    assert code == 2 and "--split 0.05 leaves none of its 6 images for trainval" in err
    _, out, _ = door("source", "--name", "drawn", "--split", "0.5", "--data-root", "other sets")
    assert out.endswith('--check "drawn" --data-root "other sets"\n')
    write(Path(), {"a.txt": b"a1\na2\n", "b.txt": b"c.1.png\n"})
    code, out, _ = door("source", "--name", "listed", "--split-file", "a.txt", "b.txt")
    assert code == 0 and "note: 3 images are in neither list" in out
    assert [pair.name for pair in PairDataset(Path("datasets", "listed", "test")).pairs] == ["c.1"]


def test_a_set_like_sirst_aug(door):
    levels = np.zeros((60, 70), np.uint8)
    levels[30:33, 30:33] = 200
    for split in ("trainval", "test"):
        for kind in ("images", "masks"):
            write(Path("datasets", "SIRST"), {f"{split}/{kind}/a.png": encode_png(levels)})
    code, out, _ = door("datasets/SIRST", "--name", "aug", "--augment-sirst")
    assert code == 0 and "aug: written, 25 pairs in trainval, 5 in test" in out
    assert "like sirst_aug, but not it" in out


def test_senseless_options(refused):
    write(Path("source"), pairs("images", "masks"))
    assert "give SOURCE and --name" in refused()
    assert "give SOURCE and --name" in refused("source")
    assert "no such file" in refused("missing", "--name", "x")
    assert "--split-file TRAINVAL TEST" in refused("source", "--name", "x")
    assert "between 0 and 1" in refused("source", "--name", "x", "--split", "80")
    assert "without --split" in refused("source", "--name", "x", "--seed", "1")
    assert "for --check" in refused("source", "--name", "x", "--output", "y")
    assert "takes --data-root and --output" in refused("--check", "x", "--replace")
    assert "takes --data-root and --output" in refused("source", "--check", "x")
    assert "takes --data-root and --output" in refused("--check", "x", "--seed", "0")
    assert "no data set x" in refused("--check", "x")
    lists = ("--split-file", "a", "b")
    assert "choose one" in refused("source", "--name", "x", "--split", "0.5", *lists)
    assert "a: cannot be read" in refused("source", "--name", "x", *lists)
    augmented = ("source", "--name", "x", "--augment-sirst")
    assert "takes --name" in refused(*augmented, "--move")
    assert "prepare the set first" in refused(*augmented)
    assert "not a name for a folder" in refused("source", "--name", "../x", "--split", "0.5")
