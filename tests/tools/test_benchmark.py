import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tools import benchmark

SCRIPT = Path(__file__).parents[2] / "tools" / "benchmark.py"


@pytest.mark.parametrize("subject", ["inference", "training", "metrics", "data"])
def test_it_measures_and_writes(tmp_path, subject):
    command = [sys.executable, SCRIPT, subject, "--runs", "1", "--quick"]
    shown = subprocess.run(
        [*command, "--json", tmp_path / "b.json"], capture_output=True, text=True, cwd=tmp_path
    )
    assert shown.returncode == 0, shown.stderr
    found = json.loads((tmp_path / "b.json").read_text())
    assert len(shown.stdout.splitlines()) == len(found)
    assert all(value > 0 for value in found.values() if isinstance(value, float))


def test_a_step_is_one_of_training():
    images = torch.rand(2, 1, 64, 64)
    step = benchmark._own_step(torch.device("cpu"), 1, images, (images > 0.9).float())
    first, second = step(), step()  # on the same images
    assert math.isfinite(first) and math.isfinite(second) and first != second


def test_an_unknown_subject():
    refused = subprocess.run([sys.executable, SCRIPT, "speed"], capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
