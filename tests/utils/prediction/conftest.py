import numpy as np
import pytest

from model import MSCoNet
from tests.model.test_msconet import random_net
from utils import checkpoint
from utils.data.images import encode_png


@pytest.fixture
def net() -> MSCoNet:
    """A small network whose maps are positive in places."""
    return random_net(0, stages=2, width=1)


@pytest.fixture
def weights(tmp_path, net):
    checkpoint.save(tmp_path / "w.pkl", net, {}, {})
    return tmp_path / "w.pkl"


@pytest.fixture
def photos(tmp_path):
    """A folder of images: sub-folders, two files of one stem, and two depths."""
    random = np.random.default_rng(0)
    for name, shape in (("a.png", (40, 50)), ("b.png", (40, 50)), ("sub/a.png", (33, 31))):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(random.integers(0, 255, shape, np.uint8)))
    np.save(tmp_path / "photos" / "a.npy", random.normal(300, 5, (20, 64)).astype(np.float32))
    return tmp_path / "photos"
