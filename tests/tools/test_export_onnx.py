import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model.test_msconet import random_net
from tools import export_onnx
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
    assert done.returncode == 0 and not done.stderr, done.stderr
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


@needs_export
def test_only_what_agrees_with_pytorch_is_written(exported, refused, door, monkeypatch):
    weights = exported / "best.pkl"
    net = checkpoint.load(weights).net
    image = np.random.default_rng(0).random((40, 33), np.float32)
    model = (exported / "net.onnx").read_bytes()
    assert export_onnx.compare(model, net, [image])[0] < export_onnx.TOLERANCE
    other = random_net(1, stages=2, width=1)
    assert export_onnx.compare(model, other, [image])[0] > export_onnx.TOLERANCE
    next(other.parameters()).data.fill_(torch.nan)
    assert np.isnan(export_onnx.compare(model, other, [image])[0])
    assert 0 < export_onnx.rounding(net, image) < export_onnx.TOLERANCE
    monkeypatch.setattr(export_onnx, "export", lambda *_: model)
    options = ("--weights", weights, "--images", exported / "photo.png", "--output", "n.onnx")
    for difference in (2e-4, np.nan):
        found = [0, 0, 0, 0, difference]  # of the scenes, and of the photograph
        monkeypatch.setattr(export_onnx, "compare", lambda *_, found=found: found)
        errors = refused("tools.export_onnx", *options)
        assert re.search(r"on .*photo\.png ONNX Runtime's probabilities are off by", errors)
    # as much as PyTorch's own there
    monkeypatch.setattr(export_onnx, "compare", lambda *_: [0, 0, 0, 0, 2e-4])
    monkeypatch.setattr(export_onnx, "rounding", lambda *_: 1.5e-4)
    assert door("tools.export_onnx", *options)[0] == 0 and Path("n.onnx").is_file()


def test_images_that_nobody_named_stop_nothing(tmp_path):
    folder = tmp_path / "tiny" / "test" / "images"
    folder.mkdir(parents=True)
    weights, info = tmp_path / "best.pkl", {"dataset": "tiny"}
    (tmp_path / "config.json").write_text(json.dumps({"data_root": str(tmp_path)}))
    assert list(export_onnx._photos(None, weights, info)) == []
    for name, content in (("b", b"damaged"), ("c", encode_png(np.eye(9, dtype=np.uint8)))):
        (folder / f"{name}.png").write_bytes(content)
    assert len(list(export_onnx._photos(None, weights, info))) == 1
    with pytest.raises(InputError, match=r"b\.png"):
        list(export_onnx._photos([str(folder)], weights, info))


def test_weights_are_not_overwritten(refused, tmp_path):
    weights = tmp_path / "best.pkl"
    checkpoint.save(weights, random_net(0, stages=1, width=1), {}, {})
    before = weights.read_bytes()
    options = ("--weights", weights, "--output", weights)
    assert "name a file that ends in .onnx" in refused("tools.export_onnx", *options)
    assert weights.read_bytes() == before


def test_weights_that_are_none(tmp_path):
    (tmp_path / "best.pkl").write_bytes(b"none")
    done = run(tmp_path, "--weights", "best.pkl")
    assert done.returncode == 2 and "best.pkl: not a weights file" in done.stderr
    assert not list(tmp_path.glob("*.onnx*"))
