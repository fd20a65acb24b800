import csv
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from utils.data.images import encode_png
from utils.metrics import job, scoring
from utils.metrics.job import Method
from utils.options import InputError

SCORES = {"metrics.json", "per_image.csv", "per_target.csv", "curve.csv"}


def files(folder):
    return {path.name for path in Path(folder).iterdir() if path.is_file()}


def test_a_comparison_is_written_and_nothing_is_left_beside_it(folders, door):
    maps, masks = folders
    one = ("cal_from_mask", "--masks", masks, "--output", "out", "--predictions", f"a={maps}")
    assert door(*one)[0] == 0 and files("out") == SCORES
    code, out, err = door(*one, f"b={maps}")
    assert code == 0 and files("out") == {"comparison.md", "comparison.json"}, err
    assert files("out/a") == files("out/b") == SCORES
    written = Path("out/comparison.md").read_text(encoding="utf-8")
    assert written in out and "published, 256x256:" in written and "| b - a | +0.00 [" in written
    content = json.loads(Path("out/comparison.json").read_text(encoding="utf-8"))
    assert content["corrected"]["b"]["pd"] == {"difference": 0, "interval": [0, 0]}
    assert door(*one, f"b={maps}", "--table", "csv")[0] == 0
    assert files("out") == {"comparison.csv", "comparison.json"}
    with Path("out/comparison.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["protocol"], row["method"]) for row in csv.DictReader(file)]
    assert rows == [(p, m) for p in ("corrected", "published") for m in "ab"]
    assert door(*one)[0] == 0 and files("out") == SCORES


def test_files_of_others_stay(folders, door):
    maps, masks = folders
    own = {"report.html", "roc.png", "per_image.csv", "metrics.json", "notes.csv", "figure.png"}
    Path("out").mkdir()
    for name in own:
        Path("out", name).write_text("{}")
    both = ("--predictions", f"a={maps}", f"b={maps}")
    assert door("cal_from_mask", "--masks", masks, "--output", "out", *both)[0] == 0
    assert files("out") == own | {"comparison.md", "comparison.json"}
    assert door("cal_from_mask", "--masks", masks, "--output", "out", *both)[0] == 0
    # to one who finds a comparison there, those of our names are ours
    assert files("out") == {"notes.csv", "figure.png", "comparison.md", "comparison.json"}


def test_a_method_that_cannot_be_scored_leaves_all_as_it_was(folders, door, refused, tmp_path):
    maps, masks = folders
    shutil.copytree(maps, tmp_path / "b")
    options = ("cal_from_mask", "--masks", masks, "--output", "out", "--plots", "--report")
    options += ("--predictions", f"a={maps}", f"b={tmp_path / 'b'}")
    assert door(*options)[0] == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*.*")}
    assert len(before) == 2 * 5 + 2 + 3
    for path in maps.iterdir():
        np.save(path.with_suffix(".npy"), np.zeros((9, 9), np.float32))
        path.unlink()
    (tmp_path / "b" / "19.mat").write_bytes(b"x")
    refused(*options)
    assert {path: path.read_bytes() for path in Path("out").rglob("*.*")} == before


def test_what_cannot_be_written_whole_is_not_written(folders, refused, monkeypatch):
    maps, masks = folders

    def fail(*arguments):
        raise InputError("report.html: cannot be written")

    monkeypatch.setattr(job, "write_page", fail)
    both = ("--predictions", f"a={maps}", f"b={maps}")
    refused("cal_from_mask", "--masks", masks, "--output", "out", "--report", *both)
    assert not [path for path in Path("out").rglob("*") if path.is_file()]


def test_too_little_memory_is_one_line(folders, refused, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(scoring, "compare", fail)
    options = ("--predictions", folders[0], "--masks", folders[1], "--output", "out")
    assert "00.mat: scoring it does not fit into memory" in refused("cal_from_mask", *options)


@pytest.mark.parametrize("pictures", ["none", "of another kind", "damaged"])
def test_pictures_beside_the_masks_need_not_be_there(folders, door, refused, pictures):
    maps, masks = folders
    images = masks.with_name("images")
    for path in images.iterdir():
        if pictures != "none":
            path.with_suffix(".tif" if pictures == "damaged" else ".txt").write_bytes(b"x")
        path.unlink()
    options = ("cal_from_mask", "--masks", masks, "--predictions", maps, "--output", "out")
    code, out, err = door(*options, "--report")
    assert code == 0 and "report: out/report.html" in Path(out).as_posix(), err
    assert Path("out/report.html").read_text(encoding="utf-8").count("<image href=") == 20
    if pictures == "none":  # but a folder that is named is
        assert "no file in it" in refused(*options, "--report", "--images", images)


def test_each_method_may_have_values_of_its_own_kind(folders, door, tmp_path):
    maps, masks = folders
    (tmp_path / "levels").mkdir()
    (tmp_path / "ones").mkdir()
    for path in maps.iterdir():
        found = scipy.io.loadmat(path)["T"] > 0
        for folder, high in (("levels", 200), ("ones", 1)):
            name = tmp_path / folder / f"{path.stem}.png"
            name.write_bytes(encode_png(found.astype(np.uint8) * high))
    options = ("cal_from_mask", "--masks", masks, "--output", "out", "--predictions")
    levels, ones = f"a={tmp_path / 'levels'}", tmp_path / "ones"
    assert "give --binary, or NAME:binary=DIR" in door(*options, levels, f"b={ones}")[1]
    assert door(*options, levels, f"b:binary={ones}")[0] == 0
    content = [json.loads(Path("out", name, "metrics.json").read_text()) for name in "ab"]
    assert [c["kind"] for c in content] == [None, "binary"]
    assert content[0]["corrected"]["iou"] == content[1]["corrected"]["iou"] > 0
    assert Method.parse("b:other=x").name == "b:other"


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_a_folder_whose_name_is_no_text(folders, refused):
    odd = os.fsdecode(os.fsencode(folders[0]) + b"\xff")
    folders[0].rename(odd)
    masks = ("--masks", folders[1])
    assert "is not UTF-8; rename it" in refused("cal_from_mask", "--predictions", odd, *masks)
    assert "is not UTF-8; rename it" in refused(
        "cal_from_mask", "--predictions", f"a={odd}", *masks
    )
