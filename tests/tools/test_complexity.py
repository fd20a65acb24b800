import json
import subprocess
import sys
from pathlib import Path

import pytest

from model import build_model

SCRIPT = Path(__file__).parents[2] / "tools" / "complexity.py"


def run(*arguments):
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is Linux's to tell")
def test_it_measures_any_network(tmp_path):
    options = "--stages 2 --width 2 --sizes 32 64 --batches 2 --runs 1 --device cpu --json".split()
    done = run(*options, tmp_path / "c.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "c.json").read_text())
    net = build_model(stages=2, width=2)
    assert found["parameters"] == sum(p.numel() for p in net.parameters())
    small, large = found["cases"]
    assert 3 < large["GFLOP/image"] / small["GFLOP/image"] < 5  # borders cost extra
    assert "64x64      2" in done.stdout


def test_senseless_sizes():
    done = run("--sizes", "0")
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_a_network_that_is_too_large(refused, monkeypatch):
    def fail(**_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("tools.complexity.build_model", fail)
    assert "does not fit into memory" in refused("tools.complexity")
