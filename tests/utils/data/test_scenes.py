import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from utils.data.scenes import Scene, make_scene

SIDES = st.integers(16, 96)
SEEDS = st.integers(0, 2**32 - 1)
SIZES = ((128, 128), (16, 16), (17, 64), (96, 160), (200, 33))


def _bytes(scene: Scene) -> bytes:
    targets = np.array(scene.targets, dtype="<f8")
    return scene.image.tobytes() + scene.mask.tobytes() + targets.tobytes()


def test_scenes_are_the_same_on_every_machine():
    digest = hashlib.sha256()
    for seed in range(30):
        digest.update(_bytes(make_scene(seed, *SIZES[seed % len(SIZES)])))
    assert digest.hexdigest() == (
        "a18b2db6f542c34e36716afa49cedce3d2f6627291e36cb6d890328f9b521f38"
    )


def test_every_seed_has_its_own_scene():
    assert len({make_scene(seed, 32, 32).image.tobytes() for seed in range(50)}) == 50


@settings(max_examples=60)
@given(SEEDS, SIDES, SIDES)
def test_mask_and_targets_agree(seed: int, height: int, width: int):
    scene = make_scene(seed, height, width)
    assert scene.image.shape == scene.mask.shape == (height, width)
    assert scene.image.dtype == scene.mask.dtype == np.uint8
    assert set(np.unique(scene.mask)) <= {0, 255}
    components = regionprops(label(scene.mask, connectivity=2))
    found = sorted((*component.centroid, component.area) for component in components)
    stated = sorted((target.row, target.column, target.area) for target in scene.targets)
    assert len(found) == len(stated) <= 4
    if stated:
        np.testing.assert_allclose(found, stated)
        assert all(1 <= target.area <= 9 for target in scene.targets)


@settings(max_examples=30)
@given(SEEDS, SIDES, SIDES, st.data())
def test_number_and_contrast_of_targets_are_as_asked(seed, height, width, data):
    n_targets = data.draw(st.integers(0, (height // 16) * (width // 16)))
    low = data.draw(st.floats(0.5, 100))
    high = data.draw(st.floats(low, 100))
    scene = make_scene(seed, height, width, n_targets=n_targets, scr=(low, high))
    assert len(scene.targets) == n_targets == label(scene.mask, connectivity=2).max()
    assert all(low <= target.scr <= high for target in scene.targets)


def test_peaks_do_not_saturate():
    """Not even on the brightest clouds, at three times the usual ratios."""
    for seed in range(30):
        scene = make_scene(seed, 64, 64, n_targets=4, scr=(30, 30))
        assert scene.image[scene.mask > 0].max() <= 250


def test_a_target_rises_above_its_surroundings_by_its_ratio():
    """Measured on the images: the target's peak over the deviation of the window without it."""
    measured = []
    for seed in range(80):
        background = make_scene(seed, 64, 64, n_targets=0).image.astype(float)
        image, mask, (target,) = make_scene(seed, 64, 64, n_targets=1)
        added = image - background
        row, column = np.unravel_index(np.argmax(added), added.shape)
        assert mask[row, column]
        window = background[max(0, row - 8) : row + 9, max(0, column - 8) : column + 9]
        stated = target.scr * max(window.std(), 2.0)
        assert added[row, column] > 0.85 * stated - 1  # both rounded; the peak may be a neighbour
        measured.append(added[row, column] / stated)
    assert np.median(measured) == pytest.approx(1, abs=0.05)  # more where the noise is the floor


def test_the_mask_is_the_upper_half_of_the_target():
    for seed in range(20):
        background = make_scene(seed, 64, 64, n_targets=0).image.astype(float)
        image, mask, _ = make_scene(seed, 64, 64, n_targets=1, scr=(10, 10))
        added = image - background
        assert added[mask > 0].min() >= 0.5 * added.max() - 1
        assert added[mask == 0].max() <= 0.5 * added.max() + 1


def test_one_scene_in_eight_is_empty():
    counts = [len(make_scene(seed, 32, 32).targets) for seed in range(300)]
    assert 1 / 12 < counts.count(0) / len(counts) < 1 / 6
    assert max(counts) == 4
    assert counts.count(1) + counts.count(2) > 150


def test_scenes_vary_in_brightness_and_contrast():
    images = [make_scene(seed, 64, 64).image for seed in range(100)]
    means, deviations = [image.mean() for image in images], [image.std() for image in images]
    assert min(means) < 50 and max(means) > 180
    assert min(deviations) < 8 and max(deviations) > 40


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        ((15, 64), {}, "15 x 64"),
        ((64, 15), {}, "64 x 15"),
        ((64, 64), {"n_targets": -1}, "not -1"),
        ((64, 64), {"n_targets": 17}, "0 to 16 targets"),
        ((64, 64), {"scr": (0, 5)}, "scr"),
        ((64, 64), {"scr": (6, 5)}, "scr"),
        ((64, 64), {"scr": (5, 101)}, "scr"),
        ((64, 64), {"scr": (float("nan"), 5)}, "scr"),
    ],
)
def test_impossible_scenes_are_refused(size, options, message):
    with pytest.raises(ValueError, match=message):
        make_scene(0, *size, **options)
