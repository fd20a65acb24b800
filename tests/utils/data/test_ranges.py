from argparse import ArgumentTypeError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from utils.data import ranges
from utils.data.ranges import checked_range, level_range, limits, normalised

dtypes = st.sampled_from([np.uint8, np.uint16])
images = dtypes.flatmap(lambda dtype: arrays.arrays(dtype, (9, 11))) | arrays.arrays(
    np.float32, (9, 11), elements=st.floats(-1e6, 1e6, width=32)
)


@given(images, st.sampled_from(["auto", "full", "percentile", (3.0, 99.5), (99.5, 3.0)]))
def test_every_image_comes_to_0_to_1(image, choice):
    low, high = limits(image, choice)
    assert low < high or choice == (99.5, 3.0)
    scaled = normalised(image, (low, high))
    assert scaled.dtype == np.float32
    assert scaled.min() >= 0 and scaled.max() <= 1


@pytest.mark.parametrize("low, high", [(1e20, 1e20), (-3e38, 3e38), (0, 1e-44), (7, 7)])
@pytest.mark.parametrize("choice", ["auto", "percentile", "full"])
def test_extreme_levels_give_numbers(low, high, choice):
    image = np.linspace(low, high, 35, dtype=np.float32).reshape(5, 7)
    scaled = normalised(image, limits(image, choice))
    assert np.isfinite(scaled).all() and scaled.min() >= 0 and scaled.max() <= 1


@pytest.mark.parametrize("choice", ["ful", [0, 9], (5, 5), (0, 1e-50), (0, np.inf), (1, 2, 3)])
def test_what_is_no_range(choice):
    with pytest.raises(ValueError, match="level range .*: expected auto"):
        checked_range(choice)


@given(images)
def test_a_brighter_pixel_stays_brighter_or_equal(image):
    scaled = normalised(image, limits(image, "auto"))
    order = np.argsort(image, axis=None, kind="stable")
    assert (np.diff(scaled.ravel()[order]) >= 0).all()


def test_full_is_all_that_the_type_holds():
    assert limits(np.zeros((2, 2), np.uint8), "full") == (0, 255)
    assert limits(np.zeros((2, 2), np.uint16), "full") == (0, 65535)
    assert limits(np.zeros((2, 2), np.float32), "full") == (0, 1)


def test_eight_bits_are_read_as_in_training():
    dim = np.full((9, 9), 7, np.uint8)
    assert limits(dim, "auto") == (0, 255)
    np.testing.assert_array_equal(normalised(dim, (0, 255)), dim / np.float32(255))


@pytest.mark.parametrize("kind", ["a glint", "a burnt-in mark", "a black border"])
def test_a_few_pixels_do_not_make_a_camera_fill_its_range(kind):
    camera = np.random.default_rng(0).integers(7000, 7900, (300, 400)).astype(np.uint16)
    camera[100:103, 50:53] = 8300
    plain = limits(camera, "auto")
    if kind == "a black border":
        camera[:2] = 0
    else:
        camera[:2, : 2 if kind == "a glint" else 5] = 45000
    low, high = limits(camera, "auto")
    assert low == pytest.approx(plain[0], abs=5)
    # room for targets, four times the range of the scene
    assert high == pytest.approx(plain[1] if kind == "a black border" else 12200, abs=50)


def test_auto_stretches_a_camera_of_14_bits_and_leaves_an_image_of_16():
    camera = np.arange(10000, dtype=np.uint16).reshape(100, 100) + 6000
    assert limits(camera, "auto") == (6000, 15998)
    assert limits(camera * np.uint16(4), "auto") == (0, 65535)


@pytest.mark.parametrize("dead", [0, 65535])
def test_a_dead_pixel_does_not_fill_the_range(dead):
    camera = np.random.default_rng(0).integers(30000, 31000, (200, 300)).astype(np.uint16)
    alive = limits(camera, "auto")
    camera[50, 60] = dead
    assert np.allclose(limits(camera, "auto"), alive, atol=5) and alive[0] >= 30000
    camera[80:82, 90:92] = 65535 if dead == 0 else 0
    low, high = limits(camera, "auto")
    assert low == 30000 and high == pytest.approx(33996 if dead == 0 else 31000, abs=5)


def test_percentiles_pass_over_dead_pixels():
    image = np.random.default_rng(0).integers(7000, 7200, (300, 300)).astype(np.uint16)
    image[5, 5], image[80, 9], image[0, 0] = 0, 65535, 65535
    low, high = limits(image, "percentile")
    assert 7000 <= low < high <= 7200
    floats = image.astype(np.float32)
    assert 7000 <= limits(floats, "percentile")[0]
    assert limits(floats, "percentile")[1] <= 7200


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_percentiles_leave_a_small_target_above_the_noise(dtype):
    image = np.random.default_rng(0).normal(3000, 10, (512, 640)).astype(dtype)
    noise = limits(image, "percentile")
    image[100:102, 200:202] = 3100
    assert limits(image, "percentile") == (noise[0], 3100)
    image[300:302, 200:202] = 60000  # a flare: the rest of the scene stays visible
    low, high = limits(image, "percentile")
    assert low == noise[0] and high == pytest.approx(low + 4 * (noise[1] - low), rel=0.01)


def test_a_pair_of_dead_pixels_is_no_target(monkeypatch):
    monkeypatch.setattr(ranges, "_SAMPLED", 256)
    image = np.random.default_rng(0).integers(7000, 7200, (257, 256)).astype(np.uint16)
    image[256, 9:11] = 65535
    assert limits(image, "percentile")[1] <= 7200


@pytest.mark.parametrize("text", ["auto", "full", "percentile"])
def test_names_of_ranges(text):
    assert level_range(text) == text


def test_limits_are_two_numbers():
    assert level_range("-20,1e3") == (-20, 1000)


def test_dark_targets_become_bright():
    levels = np.array([[0, 50, 200]], np.uint8)
    assert normalised(levels, level_range("200,0")).tolist() == [[1, 0.75, 0]]


@pytest.mark.parametrize("text", ["", "other", "3", "5,5", "0,inf", "nan,1", "1,2,3"])
def test_other_words_are_refused(text):
    with pytest.raises(ArgumentTypeError, match="two different numbers"):
        level_range(text)
