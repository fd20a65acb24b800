import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import RandomState
from skimage.measure import label, regionprops

from utils.data.pasting import PSFS, Kind, _highest, paste, target_shape
from utils.data.scenes import local_deviation, make_scene

KIND = Kind(diameter=(0.0, 5.0), blur=1.5, psf="airy", scr=(4.0, 10.0))


def background(seed, height=96, width=80):
    return make_scene(seed, height, width, n_targets=0).image


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0, 9),
    st.floats(0.4, 4),
    st.sampled_from(PSFS),
    st.integers(0, 6),
)
def test_mask_and_targets_agree(seed, diameter, blur, psf, count):
    kind = Kind((diameter / 2, diameter), blur, psf, (3.0, 8.0))
    image, mask, targets = paste(RandomState(seed), background(seed), count, kind)
    assert image.dtype == mask.dtype == np.uint8 and len(targets) <= count
    components = regionprops(label(mask, connectivity=2))
    assert sorted(c.area for c in components) == sorted(t.area for t in targets)
    for target in targets:
        nearest = min(
            components,
            key=lambda c, t=target: np.hypot(c.centroid[0] - t.row, c.centroid[1] - t.column),
        )
        assert np.hypot(nearest.centroid[0] - target.row, nearest.centroid[1] - target.column) < 1
        assert diameter / 2 * 0.6 <= target.diameter <= diameter or diameter == 0
        assert target.peak == pytest.approx(target.scr * target.clutter)


@given(st.integers(0, 2**32 - 1))
def test_room_is_sought_under_the_very_shape(seed):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (12, 14)).astype(np.uint8)
    shape = random.random((5, 5))
    shape[2, 2] = 1
    highest = _highest(image, shape)
    for row in range(2, 10):
        for column in range(2, 12):
            under = image[row - 2 : row + 3, column - 2 : column + 3][shape >= 0.5]
            assert highest[row, column] == under.max()


def test_the_ratio_is_that_of_the_image():
    for seed in range(20):
        before = background(seed)
        image, mask, targets = paste(RandomState(seed), before, 3, KIND)
        added = image.astype(float) - before
        clutter = np.maximum(local_deviation(before), 2)
        for target in targets:
            row, column = round(target.row), round(target.column)
            assert target.clutter == clutter[row, column]
            near = added[row - 3 : row + 4, column - 3 : column + 4]
            assert near.max() == pytest.approx(target.scr * clutter[row, column], abs=1)
        assert image.max() <= 251 or before.max() > 250


def test_only_what_a_target_covers_changes():
    before = background(3)
    image, mask, targets = paste(RandomState(0), before, 3, KIND)
    covered = np.zeros(before.shape, bool)
    for target in targets:  # 8 px: half the diameter and three widths of the blur
        row, column = round(target.row), round(target.column)
        covered[max(0, row - 9) : row + 10, max(0, column - 9) : column + 10] = True
    assert len(targets) == 3 and (image != before).any() and not covered.all()
    assert (image == before)[~covered].all() and not mask[~covered].any()


def test_a_bright_or_small_background_has_no_place():
    full = np.full((60, 60), 250, np.uint8)
    assert paste(RandomState(0), full, 5, KIND)[2] == []
    assert paste(RandomState(0), background(0, 16, 16), 5, Kind((8, 8), 4, "airy", (4, 4)))[2] == []


def test_a_point_is_the_point_spread():
    """Width at half height, and the first dark ring of a round aperture."""
    for psf in PSFS:
        shape = target_shape((0, 0), 0, (0, 0), 6.0, psf)
        middle = len(shape) // 2
        profile = shape[middle, middle:]
        width = 2 * np.interp(-0.5, -profile, np.arange(len(profile)))
        assert width == pytest.approx(6.0, rel=0.03)
        assert (shape >= 0).all() and shape.max() == shape[middle, middle] == 1
    airy = target_shape((0, 0), 0, (0, 0), 8.0, "airy")
    profile = airy[len(airy) // 2, len(airy) // 2 :]
    assert np.argmin(profile[:14]) in (9, 10)  # the first zero, at 1.22 / 1.029 * 8 = 9.48
    assert 0.012 < profile[10:17].max() < 0.02  # the first bright ring has 1.75 %


def test_a_shape_is_centred_where_it_says():
    for offset in ((0.3, -0.4), (-0.5, 0.5), (0, 0)):
        shape = target_shape((3.0, 2.0), 0.7, offset, 1.5, "gaussian")
        rows, columns = np.indices(shape.shape) - len(shape) // 2
        assert (rows * shape).sum() / shape.sum() == pytest.approx(offset[0], abs=0.02)
        assert (columns * shape).sum() / shape.sum() == pytest.approx(offset[1], abs=0.02)


def test_axes_and_angle():
    lying = target_shape((12.0, 6.0), 0.0, (0, 0), 1.0, "gaussian") >= 0.5
    assert 11 <= lying.any(axis=0).sum() <= 13 and 5 <= lying.any(axis=1).sum() <= 7
    standing = target_shape((12.0, 6.0), np.pi / 2, (0, 0), 1.0, "gaussian") >= 0.5
    assert (standing == lying.T).all()
