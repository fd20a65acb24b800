import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import expit
from skimage.measure import label, regionprops

from utils.prediction.detections import detect


def test_what_is_said_about_a_component():
    levels = np.full((40, 50), 100, np.uint8)
    levels[10:13, 20:24] = 151
    logits = np.full((40, 50), -5, np.float32)
    logits[10:13, 20:24] = 1
    logits[11, 22] = 3
    logits[30, 30] = 0.5
    mask, (first, second) = detect(logits, levels, (0, 255), 0.5, 1)
    assert (first.x, first.y, first.area) == (21.5, 11, 12)
    assert (first.left, first.top, first.width, first.height) == (20, 10, 4, 3)
    assert first.peak == pytest.approx(expit(3)) and second.peak == pytest.approx(expit(0.5))
    assert (first.peak_logit, second.peak_logit) == (3, 0.5)
    assert first.mean == pytest.approx((expit(3) + 11 * expit(1)) / 12)
    assert first.contrast == pytest.approx(51 / 255) and second.contrast == pytest.approx(0)
    assert mask.dtype == bool and mask.sum() == 13


def test_the_surest_comes_first_where_all_are_certain():
    logits = np.full((9, 9), -5, np.float32)
    logits[1, 1], logits[3, 3], logits[5, 5] = 60, 250, 90
    found = detect(logits, np.zeros((9, 9), np.float32), (0, 1), 0.5, 1)[1]
    assert [(d.peak, d.peak_logit) for d in found] == [(1, 250), (1, 90), (1, 60)]


def test_threshold_and_area():
    logits = np.full((9, 9), -5, np.float32)
    logits[1, 1], logits[5:7, 5:7] = 4, 1
    image = np.zeros((9, 9), np.float32)
    assert len(detect(logits, image, (0, 1), 0.5, 1)[1]) == 2
    mask, (only,) = detect(logits, image, (0, 1), 0.5, 2)
    assert only.area == 4 and mask.sum() == 4
    (only,) = detect(logits, image, (0, 1), 0.8, 1)[1]
    assert only.area == 1
    assert detect(logits, image, (0, 1), 0.99, 1)[1] == []


def test_a_target_is_above_the_threshold():
    image = np.zeros((9, 9), np.float32)
    for logit, threshold in ((0.0, 0.5), (np.log(0.25 / 0.75), 0.25)):
        logits = np.full((9, 9), logit, np.float32)
        assert not detect(logits, image, (0, 1), threshold, 1)[0].any()
        assert detect(logits + 1e-3, image, (0, 1), threshold, 1)[0].all()


def test_targets_all_over():
    mask, (only,) = detect(np.ones((3, 4), np.float32), np.ones((3, 4)), (0, 1), 0.5, 1)
    assert mask.all() and only.contrast == 0 and only.area == 12


@given(
    arrays.arrays(np.int8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)),
    st.floats(0.1, 0.9),
    st.integers(1, 4),
)
def test_the_components_of_scikit_image(levels, threshold, min_area):
    logits = levels.astype(np.float32) / 32
    expected = regionprops(label(expit(logits.astype(float)) > threshold, connectivity=2))
    expected = [region for region in expected if region.area >= min_area]
    _, found = detect(logits, np.zeros(logits.shape, np.uint8), (0, 255), threshold, min_area)
    assert sorted((d.top, d.left, d.height, d.width, d.area) for d in found) == sorted(
        (top, left, bottom - top, right - left, region.area)
        for region in expected
        for top, left, bottom, right in [region.bbox]
    )
    assert [d.peak for d in found] == sorted((d.peak for d in found), reverse=True)
    assert all(threshold - 1e-6 < d.mean < d.peak + 1e-6 for d in found)
