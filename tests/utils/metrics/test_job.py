import csv
import json
import os
import sys
from pathlib import Path

import pytest

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


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_a_folder_whose_name_is_no_text(folders, refused):
    odd = os.fsdecode(os.fsencode(folders[0]) + b"\xff")
    folders[0].rename(odd)
    masks = ("--masks", folders[1])
    assert "is not UTF-8; rename it" in refused("cal_from_mask", "--predictions", odd, *masks)
    assert "is not UTF-8; rename it" in refused(
        "cal_from_mask", "--predictions", f"a={odd}", *masks
    )
