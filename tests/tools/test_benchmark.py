import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "tools" / "benchmark.py"


def test_it_measures_and_writes(tmp_path):
    command = [sys.executable, SCRIPT, "metrics", "--runs", "1", "--images", "1"]
    shown = subprocess.run(
        [*command, "--json", tmp_path / "b.json"], capture_output=True, text=True, cwd=tmp_path
    )
    assert shown.returncode == 0, shown.stderr
    found = json.loads((tmp_path / "b.json").read_text())
    assert len(shown.stdout.splitlines()) == len(found)
    assert all(value > 0 for name, value in found.items() if name != "machine")
    refused = subprocess.run([*command[:2], "speed"], capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
