"""The corrected column of the worked examples, and the properties of counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from utils.metrics.counts import Counts, count, figures

masks = hnp.arrays(bool, (12, 10))


def rectangles(*corners):
    """256 x 256, true in the rectangles (row, column, height, width)."""
    mask = np.zeros((256, 256), bool)
    for row, column, height, width in corners:
        mask[row : row + height, column : column + width] = True
    return mask


TRUTH = (50, 50, 3, 3)


@pytest.mark.parametrize(
    "predicted, true, pd, fa",
    [
        ([TRUTH, (100, 100, 3, 3), (200, 30, 3, 3)], [TRUTH], 1, 274.658),
        ([TRUTH, (100, 100, 3, 3), (200, 30, 2, 2)], [TRUTH], 1, 198.364),
        ([TRUTH, (100, 100, 2, 2)], [TRUTH], 1, 61.035),
        ([(9, 11, 1, 1), (11, 8, 1, 2)], [(10, 10, 1, 1), (10, 12, 1, 1)], 1, 0),
        ([(9, 11, 1, 2), (11, 10, 1, 1), (12, 10, 1, 2)], [(10, 10, 1, 1)], 1, 30.518),
        ([(127, 127, 3, 3), (127, 219, 3, 3)], [(127, 127, 3, 3), (127, 39, 3, 3)], 0.5, 137.329),
    ],
    ids=["equal areas", "other areas", "denominator", "greedy", "nearest", "gate"],
)
def test_worked_examples_of_pd_and_fa(predicted, true, pd, fa):
    result = figures(count(rectangles(*predicted), rectangles(*true)))
    assert result["pd"] == pd
    assert 1e6 * result["fa"] == pytest.approx(fa, abs=5e-4)


def test_worked_example_of_an_ungated_assignment():
    c = count(
        rectangles((127, 127, 3, 3), (127, 219, 3, 3)),
        rectangles((127, 127, 3, 3), (127, 39, 3, 3)),
    )
    assert (c.n_hits, c.n_predictions - c.n_hits, c.n_targets - c.n_hits) == (1, 1, 1)


def test_worked_examples_of_an_image_without_target():
    perfect = count(rectangles(TRUTH), rectangles(TRUTH))
    empty = perfect + count(rectangles(), rectangles())
    assert figures(empty)["niou"] == 1 and empty.n_iou_images == 1 and empty.n_images == 2
    alarm = perfect + count(rectangles((9, 9, 3, 3)), rectangles())
    assert 1e6 * figures(alarm)["fa"] == pytest.approx(68.665, abs=5e-4)
    assert figures(alarm)["pd"] == 1 and figures(alarm)["niou"] == 0.5


def test_nothing_at_all_is_undefined_and_not_nan():
    assert set(figures(Counts()).values()) == {None}
    result = figures(count(rectangles(), rectangles()))
    assert result["fa"] == 0
    assert {k for k, v in result.items() if v is None} == {
        "iou", "niou", "precision", "recall", "f1", "pd",
    }  # fmt: skip


@given(masks, masks)
def test_pixel_figures_equal_their_definitions(predicted, true):
    result = figures(count(predicted, true))
    both, either = (predicted & true).sum(), (predicted | true).sum()
    if either:
        assert result["iou"] == result["niou"] == both / either
        assert result["f1"] == pytest.approx(2 * both / (predicted.sum() + true.sum()))
    if predicted.any():
        assert result["precision"] == both / predicted.sum()
    if true.any():
        assert result["recall"] == both / true.sum()


@given(st.lists(st.tuples(masks, masks), min_size=1, max_size=5), st.randoms())
def test_counts_merge_in_any_grouping(pairs, random):
    counts = [count(predicted, true) for predicted, true in pairs]
    together = sum(counts, Counts())
    random.shuffle(counts)
    cut = random.randrange(len(counts))
    merged = sum(counts[:cut], Counts()) + sum(counts[cut:], Counts())
    for name, value in figures(together).items():
        assert figures(merged)[name] == (value if value is None else pytest.approx(value))


@given(masks)
def test_a_perfect_prediction(mask):
    c = count(mask, mask)
    assert c.n_hits == c.n_targets == c.n_predictions and c.fa_px == 0
    assert figures(c)["iou"] in (1, None)


def test_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ in size"):
        count(np.zeros((3, 4), bool), np.zeros((4, 3), bool))
