import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.model.test_msconet import random_net
from utils import checkpoint

SCRIPT = Path(__file__).parents[2] / "tools" / "ship_weights.py"


@pytest.fixture
def run(tmp_path):
    """A finished run."""
    folder = tmp_path / "runs" / "tiny" / "1"
    info = {"dataset": "tiny", "epoch": 3}
    net = random_net(0, stages=2, width=2)
    net.decoupling[1].dbem.encoder[0].bn.running_var.fill_(1e5)  # beyond half precision
    checkpoint.save(folder / "best.pkl", net, info, {})
    (folder / "log.txt").write_text("epoch 3/3  loss 1\n")
    (folder / "summary.json").write_text('{"finished": true}')
    return folder


def ship(folder):
    command = [sys.executable, SCRIPT, "runs/tiny/1"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_half_the_bytes(run, tmp_path):
    done = ship(tmp_path)
    assert done.returncode == 0, done.stderr
    shipped = tmp_path / "Weight" / "tiny"
    content = (shipped / "best.pkl").read_bytes()
    assert hashlib.sha256(content).hexdigest() in done.stdout
    assert len(content) < 0.7 * (run / "best.pkl").stat().st_size
    assert (shipped / "log.txt").read_text() == (run / "log.txt").read_text()
    before, after = checkpoint.load(run / "best.pkl"), checkpoint.load(shipped / "best.pkl")
    assert after.info == {"dataset": "tiny", "epoch": 3} and not after.training
    for name, value in before.net.state_dict().items():
        loaded = after.net.state_dict()[name]
        assert loaded.dtype == value.dtype
        torch.testing.assert_close(loaded, value, rtol=1e-3, atol=1e-6)


def test_full_precision_where_half_is_not_the_same_network(run, tmp_path):
    loaded = checkpoint.load(run / "best.pkl")
    loaded.net.decoupling[0].dbem.head.weight.data.fill_(1e6)  # infinite in half precision
    checkpoint.save(run / "best.pkl", loaded.net, loaded.info, {})
    done = ship(tmp_path)
    assert done.returncode == 0 and "in full precision" in done.stdout
    shipped = checkpoint.load(tmp_path / "Weight" / "tiny" / "best.pkl").net.state_dict()
    for name, value in loaded.net.state_dict().items():
        assert torch.equal(shipped[name], value)


def test_a_run_that_is_not_finished_is_not_shipped(run, tmp_path):
    (run / "summary.json").write_text('{"finished": false}')
    done = ship(tmp_path)
    assert done.returncode == 2 and "not finished; run_0.py --resume" in done.stderr
    assert not (tmp_path / "Weight").exists()


def test_a_run_without_its_log_is_not_shipped(run, tmp_path):
    (run / "log.txt").unlink()
    done = ship(tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "log.txt: cannot be read" in done.stderr and not (tmp_path / "Weight").exists()


def test_the_weights_of_the_run_stay(run, tmp_path):
    before = (run / "best.pkl").read_bytes()
    command = [sys.executable, SCRIPT, "runs/tiny/1", "--output", "runs/tiny/../tiny/1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "whose weights would be rounded" in done.stderr
    assert (run / "best.pkl").read_bytes() == before
