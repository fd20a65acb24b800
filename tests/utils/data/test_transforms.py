import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.data.transforms import RandomOrientation, Resize, TargetCrop


def numbered(height, width):
    """An image whose values tell where they come from, and a mask with one target pixel."""
    image = torch.arange(height * width, dtype=torch.float32).reshape(1, height, width)
    mask = torch.zeros(1, height, width)
    mask[0, height // 3, width // 2] = 1
    return image, mask


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**32))
def test_a_crop_is_a_window_of_both(height, width, size, seed):
    torch.manual_seed(seed)
    image, mask = numbered(height, width)
    cropped, target = TargetCrop(size, 0.5)(image, mask)
    assert cropped.shape == target.shape == (1, size, size)
    value = image[0, height // 3, width // 2]
    if target.any():
        assert (cropped[target > 0] == value).all() and target.sum() == 1
    columns = cropped[0, 0].unique() % width  # without the repeated edge, neighbours
    assert (columns.diff() == 1).all() or len(columns) == 1


@pytest.mark.parametrize("share, low, high", [(0, 0, 15), (0.5, 170, 240), (1, 400, 400)])
def test_the_share_of_crops_that_hold_a_target(share, low, high):
    torch.manual_seed(0)
    image, mask = numbered(400, 400)
    hits = sum(bool(TargetCrop(40, share)(image, mask)[1].any()) for _ in range(400))
    assert low <= hits <= high


def test_a_drawn_target_may_be_anywhere_in_the_window():
    torch.manual_seed(0)
    image, mask = numbered(400, 400)
    places = [TargetCrop(8, 1)(image, mask)[1].nonzero() for _ in range(800)]
    assert {tuple(p[0, 1:].tolist()) for p in places if len(p)} == {
        (row, column) for row in range(8) for column in range(8)
    }


def test_orientations_are_the_eight_and_joint():
    torch.manual_seed(0)
    image, mask = numbered(3, 3)
    seen = set()
    for _ in range(200):
        turned, target = RandomOrientation()(image, mask)
        assert turned[target > 0] == image[mask > 0]
        seen.add(tuple(turned.flatten().tolist()))
    assert len(seen) == 8


def test_resize():
    image, mask = Resize(5)(*numbered(10, 20))
    assert image.shape == mask.shape == (1, 5, 5)
    assert image.dtype == mask.dtype == torch.float32
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
