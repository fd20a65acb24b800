import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model.test_msconet import random_net
from utils import checkpoint
from utils.data.images import encode_png
from utils.options import InputError
from utils.prediction import Predictor, predictor

SCRIPT = Path(__file__).parents[2] / "tools" / "export_onnx.py"
needs_export = pytest.mark.skipif(
    not hasattr(torch.export.Dim, "DYNAMIC"), reason="a newer PyTorch exports"
)
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def run(folder, *arguments):
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with best.pkl, photo.png and the network exported from it, net.onnx."""
    folder = tmp_path_factory.mktemp("exported")
    checkpoint.save(
        folder / "best.pkl", random_net(0, stages=2, width=1), {"dataset": "tiny", "epoch": 3}, {}
    )
    levels = np.random.default_rng(0).integers(0, 255, (50, 41), np.uint8)
    (folder / "photo.png").write_bytes(encode_png(levels))
    done = run(folder, "--weights", "best.pkl", "--output", "net.onnx", "--images", "photo.png")
    assert done.returncode == 0, done.stderr
    assert "on 5 images, 1 of them from files" in done.stdout
    return folder


@needs_export
@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 33, 100), (2, 1, 1), (1, 15, 17), (1, 16, 200)])
def test_any_number_of_images_of_any_size(exported, shape):
    images = list(np.random.default_rng(0).integers(0, 255, shape, np.uint8))
    ours, theirs = Predictor(exported / "best.pkl"), Predictor(exported / "net.onnx")
    for a, b in zip(ours.predict(images), theirs.predict(images), strict=True):
        assert b.logits.shape == b.background.shape == shape[1:]
        np.testing.assert_allclose(a.probability, b.probability, atol=1e-4)
        np.testing.assert_allclose(a.background, b.background, atol=1e-3)
    assert ours.network.sha256 == theirs.network.sha256
    assert theirs.network.info == {"dataset": "tiny", "epoch": 3}


@needs_export
def test_what_the_file_says_of_itself(exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported / "net.onnx")
    described = session.get_modelmeta().custom_metadata_map
    assert described["weights_sha256"] == checkpoint.load(exported / "best.pkl").sha256
    assert "clipped to [0, 1]" in described["normalisation"]
    assert "logits" in described["outputs"] and described["format"] == "msconet-onnx/1"


@needs_export
def test_an_export_has_no_stages(exported):
    with pytest.raises(InputError, match="no stages; use the .pkl"):
        Predictor(exported / "net.onnx").stages(np.zeros((9, 9), np.uint8), (0, 255))


@needs_export
def test_a_gpu_that_onnx_runtime_does_not_use(exported, monkeypatch):
    monkeypatch.setattr(predictor, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert Predictor(exported / "net.onnx").device == torch.device("cpu")
    with pytest.raises(InputError, match="net.onnx: ONNX Runtime does not compute on cuda here"):
        Predictor(exported / "net.onnx", "cuda")


@needs_export
def test_a_model_of_another_kind(exported, tmp_path):
    import onnx

    model = onnx.load(exported / "net.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="other.onnx: not written by tools/export_onnx.py"):
        Predictor(tmp_path / "other.onnx")
    (tmp_path / "cut.onnx").write_bytes((exported / "net.onnx").read_bytes()[:1000])
    with pytest.raises(InputError, match="cut.onnx: not an ONNX model"):
        Predictor(tmp_path / "cut.onnx")


def test_weights_that_are_none(tmp_path):
    (tmp_path / "best.pkl").write_bytes(b"none")
    done = run(tmp_path, "--weights", "best.pkl")
    assert done.returncode == 2 and "best.pkl: not a weights file" in done.stderr
    assert not list(tmp_path.glob("*.onnx*"))
