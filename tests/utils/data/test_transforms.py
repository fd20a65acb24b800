import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.data.transforms import Jitter, Joint, Resize, Shift, TargetCrop, orientations


def numbered(height, width):
    """An image whose values tell where they come from, and a mask with one target pixel."""
    image = torch.arange(height * width, dtype=torch.float32).reshape(1, height, width)
    mask = torch.zeros(1, height, width)
    mask[0, height // 3, width // 2] = 1
    return image, mask


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 40), st.integers(0, 2**32))
def test_a_shift_mirrors_both_beyond_the_edges(height, width, reach, seed):
    torch.manual_seed(seed)
    image, mask = numbered(height, width)
    moved, target = Shift(reach, 30)(image, mask)
    down, right = round(reach * height / 30), round(reach * width / 30)
    padded = np.pad(image[0], ((down, down), (right, right)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width))
    assert (windows == moved[0].numpy()).all(axis=(2, 3)).any()
    assert torch.equal(target, (moved == image[mask > 0]).float())


def test_a_shift_reaches_as_far_as_it_says():
    torch.manual_seed(0)
    image, mask = numbered(96, 192)
    places = [tuple(Shift(4, 48)(image, mask)[1][0].nonzero()[0].tolist()) for _ in range(900)]
    rows, columns = (sorted(set(axis)) for axis in zip(*places, strict=True))
    assert rows == list(range(24, 41)) and columns == list(range(80, 113))


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


def test_zoom_shows_a_target_larger_or_smaller_image_and_mask_alike():
    torch.manual_seed(0)
    image = torch.zeros(1, 128, 128)
    image[0, 56:72, 56:72] = 1
    crop, sides = TargetCrop(64, 1, zoom=0.5), []
    for _ in range(200):
        zoomed, mask = crop(image, image.clone())
        assert zoomed.shape == mask.shape == (1, 64, 64)
        assert torch.equal(mask, (zoomed >= 0.5).float())
        rows, columns = (mask[0].any(dim=axis) for axis in (1, 0))
        if not (rows[[0, -1]].any() or columns[[0, -1]].any()):  # the whole target is seen
            sides += [int(rows.sum()), int(columns.sum())]
    assert 10 <= min(sides) <= 12 and 22 <= max(sides) <= 24  # of 16: two thirds, one and a half
    assert len(set(sides)) > 8


def test_orientations_are_the_eight_and_joint():
    torch.manual_seed(0)
    image, mask = numbered(3, 3)
    turn, seen = Joint(*orientations()), {}
    for _ in range(400):
        turned, target = turn(image, mask)
        assert type(turned) is type(target) is torch.Tensor
        assert turned[target > 0] == image[mask > 0]
        key = tuple(turned.flatten().tolist())
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == 8 and min(seen.values()) > 25


def test_jitter_is_another_camera_and_leaves_the_mask():
    torch.manual_seed(0)
    image, mask = torch.rand(1, 40, 40) * 0.4 + 0.3, numbered(40, 40)[1]
    means, spreads = [], []
    for _ in range(60):
        changed, same = Jitter(0.2)(image, mask)
        assert same is mask and changed.shape == image.shape
        assert 0 <= changed.min() and changed.max() <= 1
        means.append(float(changed.mean() - image.mean()))
        spreads.append(float(changed.std() / image.std()))
    assert -0.1 <= min(means) < -0.05 < 0.05 < max(means) <= 0.1
    assert 0.75 < min(spreads) < 0.9 < 1.1 < max(spreads) < 1.25


def test_resize():
    image, mask = numbered(10, 20)
    mask[0, 3:7, 6:15] = 1
    resized, resized_mask = Resize(5)(image, mask)
    assert resized_mask.equal(mask[:, ::2, ::4]) and resized_mask.sum() == 4
    rows, columns = 2 * torch.arange(5.0)[:, None] + 0.5, 4 * torch.arange(5.0) + 1.5
    torch.testing.assert_close(resized, (20 * rows + columns)[None])  # of pixel middles
