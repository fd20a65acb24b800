import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.model.test_msconet import random_net
from utils import checkpoint

SCRIPT = Path(__file__).parents[2] / "tools" / "export_onnx.py"
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.skipif(not hasattr(torch.export.Dim, "DYNAMIC"), reason="a newer PyTorch exports")
def test_any_number_of_images_of_any_size(tmp_path):
    net = random_net(0, stages=2, width=1)
    weights, model = tmp_path / "best.pkl", tmp_path / "net.onnx"
    checkpoint.save(weights, net, {}, {})
    command = [sys.executable, SCRIPT, "--weights", weights, "--output", model]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for shape in ((1, 64, 64), (3, 33, 100), (2, 1, 1), (1, 15, 17), (1, 16, 200)):
        images = torch.rand(shape[0], 1, *shape[1:])
        (found,) = session.run(None, {"images": images.numpy()})
        with torch.inference_mode():
            torch.testing.assert_close(
                torch.from_numpy(found), net(images).target, atol=1e-4, rtol=1e-4
            )
    described = session.get_modelmeta().custom_metadata_map
    assert described["weights_sha256"] == checkpoint.load(weights).sha256
    assert "[0, 1]" in described["input"]


def test_weights_that_are_none(tmp_path):
    (tmp_path / "best.pkl").write_bytes(b"none")
    command = [sys.executable, SCRIPT, "--weights", "best.pkl"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "best.pkl: not a weights file" in done.stderr
    assert not list(tmp_path.glob("*.onnx*"))
