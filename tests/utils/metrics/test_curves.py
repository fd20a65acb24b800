import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics

from tests.utils.metrics import plain
from utils.metrics.counts import count
from utils.metrics.curves import (
    FROC_LOGITS,
    FrocSums,
    PixelSums,
    TargetSums,
    average_precision,
    froc,
    froc_sums,
    pd_at,
    pixel_sums,
    precision_recall,
    roc,
    roc_auc,
    target_roc,
    target_sums,
)
from utils.metrics.maps import Map
from utils.metrics.matching import components

# few mantissa bits: numbers that the histogram keeps apart
scores = st.integers(-12, 12).map(lambda v: v / 2)
images = st.lists(
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
        lambda s: st.tuples(hnp.arrays(np.float32, s, elements=scores), hnp.arrays(bool, s))
    ),
    min_size=1,
    max_size=4,
)


def total(items):
    return sum((pixel_sums(Map(logits), true) for logits, true in items), PixelSums())


@given(images)
def test_auc_and_average_precision_are_those_of_scikit_learn(items):
    logits = np.concatenate([logits.ravel() for logits, _ in items])
    true = np.concatenate([true.ravel() for _, true in items])
    sums = total(items)
    area, precision = roc_auc(roc(sums)), average_precision(precision_recall(sums))
    if true.any() and not true.all():
        assert area == pytest.approx(metrics.roc_auc_score(true, logits))
    else:
        assert area is None
    if true.any():
        assert precision == pytest.approx(metrics.average_precision_score(true, logits))
    else:
        assert precision is None


def test_auc_of_arbitrary_logits_is_close_to_scikit_learn():
    random = np.random.default_rng(0)
    true = random.random((200, 200)) < 0.01
    logits = (random.normal(-5, 2, true.shape) + 4 * true).astype(np.float32)
    sums = pixel_sums(Map(logits), true)
    exact = metrics.roc_auc_score(true.ravel(), logits.ravel())
    assert roc_auc(roc(sums)) == pytest.approx(exact, abs=1e-4)
    exact = metrics.average_precision_score(true.ravel(), logits.ravel())
    assert average_precision(precision_recall(sums)) == pytest.approx(exact, abs=2e-3)


def test_levels_of_eight_bits_are_kept_apart():
    levels = np.arange(256, dtype=np.float32)[None] / 255
    sums = pixel_sums(Map(levels, are_logits=False), levels > 2)
    assert sums.pixels.max() == 1
    thresholds = roc(sums).thresholds
    assert thresholds[1] == np.inf and (np.diff(thresholds[1:]) < 0).all()


def test_a_threshold_is_reached_by_all_that_it_counts():
    logits = np.float32([[-np.inf, -5.01, -5.0, -1e-30, 0.0, 1e-30, 5.01, np.inf]])
    thresholds, x, _ = roc(pixel_sums(Map(logits), np.zeros(logits.shape, bool)))
    for threshold, share in zip(thresholds[1:], x[1:], strict=True):
        assert share == (logits >= threshold).mean(), threshold


def test_zero_has_no_sign():
    sums = pixel_sums(Map(np.float32([[-0.0, 0.0]])), np.array([[True, False]]))
    assert roc_auc(roc(sums)) == 0.5


def test_without_pixels_there_is_no_curve():
    assert roc_auc(roc(PixelSums())) is None
    assert average_precision(precision_recall(PixelSums())) is None
    assert pd_at(froc(FrocSums()), 1e-6) is None
    assert roc_auc(target_roc(TargetSums())) is None


def noisy(seed):
    """Logits with clutter and targets, 60 x 80, and the mask."""
    random = np.random.default_rng(seed)
    logits = random.normal(-4, 2.5, (60, 80)).astype(np.float32)
    true = np.zeros(logits.shape, bool)
    for row, column in random.integers(0, 55, (random.integers(0, 5), 2)):
        true[row : row + 3, column : column + 3] = True
    logits[true] += random.normal(7, 3, true.sum())
    return logits, true


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("lift", [-6, 0, 9])
def test_froc_equals_counting_at_each_threshold(seed, lift):
    logits, true = noisy(seed)
    logits += np.float32(lift)
    sums = froc_sums(Map(logits), components(true))
    for i, threshold in enumerate(FROC_LOGITS):
        counts = count(Map((logits > threshold) - np.float32(0.5)), true)
        assert (sums.hits[i], sums.fa_px[i]) == (counts.n_hits, counts.fa_px), threshold
    assert (sums.n_targets, sums.n_pixels) == (counts.n_targets, true.size)


def test_froc_of_one_tall_blob_among_many(monkeypatch):
    logits = np.full((200, 200), -9, np.float32)
    logits[::3, 2::3] = -3  # side by side, as high as the line: many times the image
    logits[:, 0] = 1
    made, full = [], np.full

    def watched(shape, *arguments):
        made.append(np.prod(shape))
        return full(shape, *arguments)

    monkeypatch.setattr(np, "full", watched)
    sums = froc_sums(Map(logits), components(np.zeros(logits.shape, bool)))
    assert max(made, default=0) <= logits.size
    assert sums.fa_px[0] == (logits > FROC_LOGITS[0]).sum() and sums.fa_px[9] == 200


def test_pd_at_a_limit_of_fa():
    n = len(FROC_LOGITS)
    sums = FrocSums(hits=np.zeros(n, int), fa_px=np.zeros(n, int), n_targets=4, n_pixels=10**6)
    sums.hits[:3], sums.fa_px[:3] = [4, 3, 1], [20, 8, 1]
    curve = froc(sums)
    assert [pd_at(curve, fa) for fa in (1e-7, 1e-6, 1e-5, 1e-4)] == [0, 0.25, 0.75, 1]


@pytest.mark.parametrize("clutter", [2, 40, 190, 900])
def test_pd_at_fa_where_networks_are_very_sure(clutter):
    logits = np.full((60, 60), -200, np.float32)
    logits[10:13, 10:13], logits[40:43, 40:43] = 1.05 * clutter + 1, clutter
    sums = froc_sums(Map(logits), components(logits > 1.05 * clutter))
    assert pd_at(froc(sums), 1e-6) == 1


@pytest.mark.parametrize("seed", range(8))
def test_the_published_roc_is_that_of_its_loop(seed):
    logits, true = noisy(seed)
    sums = target_sums(Map(logits), components(true))
    if not true.any():
        assert sums.background_px == sums.n_targets == sums.false_px.sum() == 0
        return
    false, touched, background, targets = plain.roc(logits, true)
    np.testing.assert_array_equal(sums.false_px, false)
    np.testing.assert_array_equal(sums.touched, touched)
    assert (sums.background_px, sums.n_targets) == (background, targets)
    area = metrics.auc(false / background, touched / targets)
    assert roc_auc(target_roc(sums)) == pytest.approx(area)
