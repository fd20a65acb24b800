import numpy as np
import pytest
import torch

from model import build_model
from utils import checkpoint
from utils.data.images import resize
from utils.prediction.predictor import Predictor

CPU = torch.device("cpu")


@pytest.fixture
def weights(tmp_path):
    checkpoint.save(tmp_path / "w.pkl", build_model(stages=2, width=1), {}, {})
    return tmp_path / "w.pkl"


@pytest.mark.parametrize("shape", [(1, 1), (31, 33), (64, 40)])
def test_logits_at_the_size_of_the_image(weights, shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    logits = Predictor(weights, CPU)(image)
    expected = checkpoint.load(weights).net(torch.from_numpy(image)[None, None]).target
    assert logits.shape == shape and logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected[0, 0].detach().numpy(), atol=1e-5)


def test_by_default_the_size_of_the_training(tmp_path):
    image = np.zeros((50, 30), np.float32)
    path = tmp_path / "w.pkl"
    checkpoint.save(path, build_model(stages=1, width=1), {"image_size": 32}, {})
    assert Predictor(path, CPU)(image).shape == (32, 32)
    assert Predictor(path, CPU, size=0)(image).shape == (50, 30)
    checkpoint.save(path, build_model(stages=1, width=1), {"image_size": None}, {})
    assert Predictor(path, CPU)(image).shape == (50, 30)


def test_logits_at_another_size(weights):
    image = np.random.default_rng(0).random((50, 30), np.float32)
    logits = Predictor(weights, CPU, size=32)(image)
    assert logits.shape == (32, 32)
    np.testing.assert_array_equal(logits, Predictor(weights, CPU)(resize(image, 32)))
