import numpy as np
import pytest

from utils.metrics.maps import Map
from utils.metrics.protocols import CORRECTED, PUBLISHED, Protocol

LEVELS = np.array([[0, 100, 200], [0, 255, 1]], np.uint8)


def test_mask_rules():
    assert CORRECTED.mask(LEVELS).tolist() == [[False, False, True], [False, True, False]]
    assert PUBLISHED.mask(LEVELS).tolist() == [[False, False, False], [False, True, False]]
    blank = np.zeros((2, 2), np.uint8)
    assert not PUBLISHED.mask(blank).any() and not CORRECTED.mask(blank).any()


@pytest.mark.parametrize(
    "rule",
    [{"matching": "hungarian"}, {"denominator": "area"}, {"sampling": "top"}, {"roc_rule": ""}],
)
def test_a_rule_that_is_none(rule):
    (name,) = rule
    with pytest.raises(ValueError, match=f"{name} '.*': expected one of"):
        Protocol("own", **rule)


@pytest.mark.parametrize("are_logits", [True, False])
def test_pixel_rules(are_logits):
    probability = np.array([[0.01, 0.2, 0.3, 0.6]], np.float32)
    values = np.log(probability / (1 - probability)) if are_logits else probability
    found = Map(values, are_logits)
    assert found.positive().tolist() == [[False, False, False, True]]
    np.testing.assert_allclose(found.relative, probability / 0.6, rtol=1e-5)
    np.testing.assert_allclose(found.logits(), np.log(probability / (1 - probability)), rtol=1e-5)


@pytest.mark.parametrize("value, are_logits", [(0.0, True), (0.5, False)])
def test_a_probability_of_one_half_is_no_target(value, are_logits):
    assert not Map(np.full((2, 3), value, np.float32), are_logits).positive().any()
    assert Map(np.full((2, 3), value + 1e-6, np.float32), are_logits).positive().all()


def test_levels_at_half_of_the_maximum_are_not_over_it():
    found = Map(np.float32([[100, 200, 101]]) / np.float32(255), are_logits=False)
    assert (found.relative > 0.5).tolist() == [[False, True, True]]


def test_probabilities_of_zero_and_one():
    found = Map(np.float32([[0, 1]]), are_logits=False)
    assert found.logits().tolist() == [[-np.inf, np.inf]]
    assert not Map(np.zeros((2, 2), np.float32), are_logits=False).relative.any()
