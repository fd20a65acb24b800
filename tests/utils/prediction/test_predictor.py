from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from model import build_model
from utils import checkpoint
from utils.data.images import resize
from utils.prediction import Predictor, predictor


def expected(weights, image):
    with torch.inference_mode():
        maps = checkpoint.load(weights).net(torch.from_numpy(image)[None, None])
    return maps.target[0, 0].numpy(), maps.background[0, 0].numpy()


@pytest.mark.parametrize("shape", [(1, 1), (31, 33), (64, 40), (2000, 37)])
def test_maps_at_the_size_of_the_image(weights, shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    result = Predictor(weights, "cpu", level_range="full")(image)
    for found, true in zip(
        (result.logits, result.background), expected(weights, image), strict=True
    ):
        assert found.shape == shape and found.dtype == np.float32
        np.testing.assert_allclose(found, true, atol=1e-4, rtol=1e-4)
    assert result.probability.dtype == np.float32 and result.mask.dtype == bool
    assert np.array_equal(result.mask, result.probability > 0.5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64, bool])
def test_arrays_of_any_type(weights, dtype):
    image = np.random.default_rng(0).integers(0, 200, (33, 40)).astype(dtype)
    predict = Predictor(weights)
    result = predict(image)
    low, high = result.limits
    seen = np.clip((image.astype(np.float32) - low) / (high - low), 0, 1).astype(np.float32)
    np.testing.assert_allclose(result.logits, expected(weights, seen)[0], atol=1e-4, rtol=1e-3)
    colour = predict(np.repeat(image[..., None], 3, axis=2))
    assert colour.logits.shape == (33, 40)


def test_arrays_that_are_no_image(weights):
    predict = Predictor(weights)
    for array in (
        np.zeros((2, 3, 4, 5)),
        np.zeros((0, 4)),
        np.array([["a"]]),
        np.full((2, 2), np.nan),
    ):
        with pytest.raises(ValueError, match="expected an image|NaN"):
            predict(array)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Predictor(weights, threshold=50)
    for size in (-3, 7.5):
        with pytest.raises(ValueError, match="expected a number of pixels"):
            Predictor(weights, size=size)


def test_at_another_size_and_back(weights):
    image = np.random.default_rng(0).random((50, 30), np.float32)
    found = Predictor(weights, size=32, level_range="full")(image)
    small = expected(weights, resize(image, 32))[0]
    np.testing.assert_allclose(found.logits, resize(small, (50, 30)), atol=1e-4, rtol=1e-4)


def test_several_at_once(weights):
    images = list(np.random.default_rng(0).integers(0, 255, (3, 40, 33), np.uint8))
    predict = Predictor(weights)
    for image, result in zip(images, predict.predict(images), strict=True):
        np.testing.assert_allclose(result.logits, predict(image).logits, atol=1e-4, rtol=1e-4)


def test_large_images_in_tiles(weights, monkeypatch):
    image = np.random.default_rng(0).integers(0, 65535, (300, 200), np.uint16)
    predict = Predictor(weights)
    whole = predict(image)
    monkeypatch.setattr(predictor, "WHOLE", 1)
    monkeypatch.setattr(predictor, "TILE", 160)
    monkeypatch.setattr(predictor, "OVERLAP", 96)
    tiled = predict(image)
    assert tiled.limits == whole.limits  # of the image, not of each tile
    for a, b in ((tiled.logits, whole.logits), (tiled.background, whole.background)):
        assert a.shape == b.shape and np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.8


def test_from_several_threads(weights):
    images = np.random.default_rng(0).integers(0, 255, (24, 48, 40), np.uint8)
    predict = Predictor(weights, threshold=0.4)
    alone = [predict(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(predict, images))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-5)


def test_stages(weights):
    image = np.random.default_rng(0).random((40, 33), np.float32)
    first, last = Predictor(weights).stages(image, (0.0, 1.0))
    target, background = expected(weights, image)
    np.testing.assert_allclose(last.target, target, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(last.background, background, atol=1e-4, rtol=1e-4)
    assert first.reconstruction.shape == (40, 33)


@pytest.mark.parametrize("shape", [(48, 48), (70, 33), (1, 40), (1, 1)])
def test_the_mean_of_all_orientations(weights, shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    views = [np.rot90(i, k).copy() for i in (image, image.T) for k in range(4)]
    found = [expected(weights, view) for view in views]
    means = []
    for maps in zip(*found, strict=True):  # of targets, of the background
        straight = [np.rot90(m, -k) for m, k in zip(maps, 2 * [0, 1, 2, 3], strict=True)]
        means.append(sum(straight[:4] + [m.T for m in straight[4:]]) / 8)
    predict = Predictor(weights, level_range="full", tta=True)
    result, last = predict(image), predict.stages(image, (0.0, 1.0))[-1]
    if shape != (1, 1):
        assert np.abs(means[0] - found[0][0]).max() > 0.01  # one alone is not it
    for maps in ((result.logits, result.background), (last.target, last.background)):
        for m, mean in zip(maps, means, strict=True):
            np.testing.assert_allclose(m, mean, atol=1e-4, rtol=1e-4)
    turned = predict(np.rot90(image[:, ::-1]))
    np.testing.assert_allclose(turned.logits, np.rot90(result.logits[:, ::-1]), atol=1e-4)


@pytest.mark.parametrize(
    "reason",
    [
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_too_little_memory(weights, monkeypatch, reason):
    predict = Predictor(weights)

    def fail(images):
        raise RuntimeError(reason)

    monkeypatch.setattr(predict.network._net, "target_and_background", fail)
    with pytest.raises(MemoryError):
        predict(np.zeros((9, 9), np.uint8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-4), ("bf16", 0.05)])
def test_a_gpu_predicts_what_the_cpu_does(weights, precision, tolerance):
    image = np.random.default_rng(0).integers(0, 255, (70, 90), np.uint8)
    on_gpu = Predictor(weights, "cuda", precision=precision)(image)
    on_cpu = Predictor(weights, "cpu")(image)
    np.testing.assert_allclose(on_gpu.probability, on_cpu.probability, atol=tolerance)


def test_weights_without_training(tmp_path):
    checkpoint.save(tmp_path / "w.pkl", build_model(stages=1, width=1), {"image_size": 32}, {})
    assert Predictor(str(tmp_path / "w.pkl"))(np.zeros((50, 30), np.uint8)).logits.shape == (50, 30)
