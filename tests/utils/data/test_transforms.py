import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.data.transforms import (
    Jitter,
    Joint,
    Lifted,
    PasteTarget,
    Resize,
    Shift,
    TargetCrop,
    lift,
    orientations,
)


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


def slope(height, width):
    """A background that rises evenly to the right, (1, height, width)."""
    return torch.linspace(0.2, 0.4, width).expand(1, height, width).clone()


def blob(peak=0.5):
    """Light of 13 x 13 px, and the mask of 3 x 3 px in its middle; (1, 13, 13) each."""
    y, x = torch.meshgrid(torch.arange(-6.0, 7), torch.arange(-6.0, 7), indexing="ij")
    light = peak * torch.exp(-(y**2 + x**2) / 2)[None]
    return torch.where(light.abs() > 1e-3, light, 0), (light.abs() > 0.3 * abs(peak)).float()


def put(light, shape, *places, image=None):
    """A slope of 48 x 64 px with a blob at each place, given by its upper left corner."""
    image, mask = slope(48, 64) if image is None else image, torch.zeros(1, 48, 64)
    for row, column in places:
        window = np.s_[:, max(row, 0) : row + 13, max(column, 0) : column + 13]
        inside = np.s_[:, max(-row, 0) : 48 - row, max(-column, 0) : 64 - column]
        image[window] += light[inside]
        mask[window] = torch.maximum(mask[window], shape[inside])
    return image, mask


def as_lifted(light, shape, scr=9.0):
    return Lifted(light[0].numpy(), shape[0].numpy(), scr)


def test_a_target_is_lifted_off_its_background():
    light, shape = blob()
    (target,) = lift(*put(light, shape, (18, 28)))
    assert np.array_equal(target.mask, shape[0].numpy())  # 5 px around the mask of 3 x 3
    assert abs(target.light - light[0].numpy()).max() < 0.01
    assert not target.light[[0, 1, -2, -1]].any() and not target.light[:, [0, 1, -2, -1]].any()
    around = slope(48, 64)[0, 18:31, 28:41].numpy()
    ring = np.ones((13, 13), bool)
    ring[2:-2, 2:-2] = False
    assert target.scr == pytest.approx(0.5 / around[ring].std(), rel=0.1)


def test_what_is_cut_off_or_touched_is_not_lifted():
    light, shape = blob()
    for places in ([(-2, 20)], [(36, 20)], [(10, -2)], [(10, 53)], [(10, 20), (12, 27)]):
        assert lift(*put(light, shape, *places)) == []
    assert len(lift(*put(light, shape, (0, 0), (35, 51)))) == 2  # as near to the edge as can be
    assert lift(slope(8, 8), torch.zeros(1, 8, 8)) == []


def test_dark_targets_are_not_lifted_noise_or_not():
    light, shape = blob(-0.05)
    torch.manual_seed(0)
    for noise in (0.0, 0.02):
        for _ in range(20):
            image = slope(48, 64) + noise * torch.randn(1, 48, 64)
            assert lift(*put(light, shape, (18, 28), image=image)) == []


@given(st.integers(4, 60), st.integers(4, 60), st.integers(0, 2**32))
def test_a_pasted_target_is_added_apart_from_others(height, width, seed):
    torch.manual_seed(seed)
    image, mask = slope(height, width), numbered(height, width)[1]
    before = image.clone(), mask.clone()
    light, shape = blob()
    pasted, target = PasteTarget([as_lifted(light, shape)], 1)(image, mask)
    assert torch.equal(image, before[0]) and torch.equal(mask, before[1])
    added, new = pasted - image, target - mask
    assert set(new.unique().tolist()) <= {0.0, 1.0}
    if not new.any():
        assert torch.equal(pasted, image)
        return
    assert new.sum() == shape.sum() and added.sum() == pytest.approx(float(light.sum()), rel=1e-3)
    row, column = new[0].nonzero().amin(dim=0).tolist()
    assert not mask[0, max(row - 5, 0) : row + 8, max(column - 5, 0) : column + 8].any()


def test_which_targets_how_turned_how_often_and_where():
    light, shape = blob()
    other = shape.clone()
    other[0, 5, 8] = other[0, 5, 9] = 1  # like a flag: its eight orientations differ
    torch.manual_seed(0)
    paste = PasteTarget([as_lifted(light, shape), as_lifted(light, other)], 0.5)
    seen = [paste(slope(64, 64), torch.zeros(1, 64, 64))[1][0] for _ in range(400)]
    masks = [mask for mask in seen if mask.any()]
    assert 160 <= len(masks) <= 240
    flags = [mask for mask in masks if mask.sum() == 11]
    assert 60 <= len(flags) <= 140
    shapes = set()
    for mask in flags:
        rows, columns = mask.nonzero().T
        shapes.add(
            mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].numpy().tobytes()
        )
    assert len(shapes) == 8
    assert len({tuple(mask.nonzero()[0].tolist()) for mask in masks}) > 100


@pytest.mark.parametrize("level, peak, pasted", [(0.4, 0.5, True), (0.6, 0.5, False)])
def test_no_target_is_pasted_where_it_would_be_cut_off_at_one(level, peak, pasted):
    paste = PasteTarget([as_lifted(*blob(peak))], 1)
    image = torch.full((1, 64, 64), level)
    assert paste(image, torch.zeros(1, 64, 64))[1].any() == pasted


def test_no_target_is_pasted_where_it_would_be_cut_off_at_zero_but_what_is_around_may_be():
    light, shape = blob()
    light[0, 6, 9] = -0.1  # a dark rim
    wider = shape.clone()
    wider[0, 6, 9] = 1
    for level, of, pasted in ((0.05, wider, False), (0.15, wider, True), (0.05, shape, True)):
        image, mask = torch.full((1, 64, 64), level), torch.zeros(1, 64, 64)
        image, mask = PasteTarget([as_lifted(light, of)], 1)(image, mask)
        assert mask.any() == pasted
        assert image.min() == pytest.approx(max(0, level - 0.1 * pasted))


@pytest.mark.parametrize(
    "contrast, scr, pasted",
    [(0.4, 9.0, False), (0.4, 3.0, False), (0.4, 1.0, True), (0.2, 9.0, True)],
)
def test_no_target_is_pasted_where_clutter_hides_it_unless_it_came_from_such(contrast, scr, pasted):
    paste = PasteTarget([as_lifted(*blob(), scr)], 1)
    clutter = torch.arange(64 * 64).reshape(1, 64, 64) // 2 % 2 * contrast  # half about its mean
    assert paste(clutter, torch.zeros(1, 64, 64))[1].any() == pasted


def test_several_places_are_tried():
    torch.manual_seed(0)
    paste = PasteTarget([as_lifted(*blob())], 1)
    image = torch.full((1, 64, 64), 0.9)
    image[:, :, :32] = 0.2  # a third of the places
    pasted = [bool(paste(image, torch.zeros(1, 64, 64))[1].any()) for _ in range(50)]
    assert sum(pasted) > 40


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
