"""The published counts of the real data sets, where they lie beside the repository."""

from pathlib import Path

import pytest

from utils.data.dataset import PairDataset, list_images
from utils.data.images import read_mask, resize
from utils.metrics.matching import components

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.parametrize(
    "name, trainval, test, targets, targets_at_256",
    [
        ("NUDT-SIRST", 663, 664, 945, 945),
        ("IRSTD-1k", 800, 201, 297, 291),
        ("SIRST", 341, 86, 109, 109),
    ],
)
def test_pairs_and_targets(name, trainval, test, targets, targets_at_256):
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not here")
    assert len(PairDataset(DATA / name / "trainval")) == trainval
    assert len(PairDataset(DATA / name / "test")) == test
    masks = [read_mask(path) for path in list_images(DATA / name / "test" / "masks").values()]
    assert sum(len(components(mask).areas) for mask in masks) == targets
    small = (resize(mask, 256, nearest=True) for mask in masks)
    assert sum(len(components(mask).areas) for mask in small) == targets_at_256
