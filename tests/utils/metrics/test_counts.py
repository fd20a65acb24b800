"""The worked examples, both columns, and the properties of counting."""

import numpy as np
import pytest
import skimage.measure
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

from tests.utils.metrics import plain
from utils.metrics.counts import Counts, compare, count, figures
from utils.metrics.maps import Map
from utils.metrics.protocols import CORRECTED, PROTOCOLS, PUBLISHED

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))
pairs = hnp.array_shapes(min_dims=2, max_dims=2, max_side=14).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)


def rectangles(*corners):
    """256 x 256, true in the rectangles (row, column, height, width)."""
    mask = np.zeros((256, 256), bool)
    for row, column, height, width in corners:
        mask[row : row + height, column : column + width] = True
    return mask


def sure(mask):
    """The map of a method that is sure of a mask."""
    return Map(np.where(mask, 9.0, -9.0).astype(np.float32))


TRUTH = (50, 50, 3, 3)


@pytest.mark.parametrize(
    "predicted, true, published, corrected",
    [
        ([TRUTH, (100, 100, 3, 3), (200, 30, 3, 3)], [TRUTH], (1, 0), (1, 274.658)),
        ([TRUTH, (100, 100, 3, 3), (200, 30, 2, 2)], [TRUTH], (1, 15.259), (1, 198.364)),
        ([TRUTH, (100, 100, 2, 2)], [TRUTH], (1, 15.259), (1, 61.035)),
        (
            [(9, 11, 1, 1), (11, 8, 1, 2)],
            [(10, 10, 1, 1), (10, 12, 1, 1)],
            (0.5, None),
            (1, 0),
        ),
        (
            [(9, 11, 1, 2), (11, 10, 1, 1), (12, 10, 1, 2)],
            [(10, 10, 1, 1)],
            (1, 11.444),
            (1, 30.518),
        ),
        (
            [(127, 127, 3, 3), (127, 219, 3, 3)],
            [(127, 127, 3, 3), (127, 39, 3, 3)],
            (0.5, 0),
            (0.5, 137.329),
        ),
    ],
    ids=["equal areas", "other areas", "denominator", "greedy", "nearest", "gate"],
)
def test_worked_examples_of_pd_and_fa(predicted, true, published, corrected):
    prediction, truth = sure(rectangles(*predicted)), rectangles(*true)
    for protocol, (pd, fa) in ((PUBLISHED, published), (CORRECTED, corrected)):
        result = figures(count(prediction, truth, protocol), protocol)
        assert result["pd"] == pd
        if fa is not None:
            assert 1e6 * result["fa"] == pytest.approx(fa, abs=5e-4)


def test_worked_example_of_rescaling_by_the_maximum():
    probability = np.full((256, 256), 0.01, np.float32)
    probability[60:62, 60:62], probability[150, 150] = 0.30, 0.20
    prediction = Map(probability, are_logits=False)
    truth = rectangles((60, 60, 2, 2))
    found = {
        name: (figures(c)["iou"], c.n_hits, c.n_false, c.fa_px)
        for name, c in ((p.name, count(prediction, truth, p)) for p in PROTOCOLS.values())
    }
    assert found == {
        "corrected": (0, 0, 0, 0),
        "published": (0.8, 0, 0, 0),
        "drpca": (0.8, 1, 1, 1),
        "rpcanet": (0.8, 1, 1, 1),
        "dnanet": (0, 0, 0, 0),
        "sctransnet": (0, 0, 0, 0),
        "basicirstd": (0, 0, 0, 0),
    }


def test_worked_examples_of_an_image_without_target():
    nothing, truth = rectangles(), rectangles(TRUTH)
    for protocol, niou, n in ((PUBLISHED, 0.5, 2), (CORRECTED, 1, 1)):
        both = count(sure(truth), truth, protocol) + count(sure(nothing), nothing, protocol)
        assert figures(both, protocol)["niou"] == niou
        assert both.n_iou_images == n and both.n_images == 2
    alarm = count(sure(truth), truth) + count(sure(rectangles((9, 9, 3, 3))), nothing)
    assert 1e6 * figures(alarm)["fa"] == pytest.approx(68.665, abs=5e-4)
    assert figures(alarm)["pd"] == 1 and figures(alarm)["niou"] == 0.5


@pytest.mark.parametrize(
    "n_images, pixels, fa", [(201, 117, 2.22), (664, 392, 2.25), (545, 1759, 12.31)]
)
def test_fa_of_the_paper_is_whole_pixels_over_its_denominator(n_images, pixels, fa):
    blank = np.zeros((256, 256), bool)
    counts = Counts()
    for i in range(n_images):  # one strip of false pixels in each image, the rest in the last
        length = pixels // n_images + (pixels % n_images if i == n_images - 1 else 0)
        strip = np.zeros(256 * 256, bool)
        strip[:length] = True
        counts += count(sure(strip.reshape(256, 256)), blank, PUBLISHED)
    assert counts.fa_px == pixels
    result = figures(counts, PUBLISHED)["fa"]
    assert result * 512**2 * n_images == pytest.approx(pixels, abs=1e-6)
    assert round(1e6 * result, 2) == fa


def test_the_conventions_differ_where_they_say():
    # one target hit at 2.5 px, one false alarm of the same area, one that covers a target's edge
    truth = rectangles((20, 20, 4, 4), (100, 100, 9, 9))
    prediction = sure(rectangles((20, 22, 4, 5), (60, 60, 4, 5), (108, 108, 9, 9)))
    found = {
        name: (c.n_hits, c.n_false, c.fa_px, c.fa_of_px)
        for name, c in ((p.name, count(prediction, truth, p)) for p in PROTOCOLS.values())
    }
    assert found == {
        "corrected": (1, 2, 101, 65536),
        "published": (0, 3, 121, 512 * 512),
        "drpca": (1, 2, 81, 65536),
        "rpcanet": (2, 1, 12 + 20 + 80, 65536 - 97),
        "dnanet": (1, 2, 81, 65536),
        "sctransnet": (1, 2, 81, 65536),
        "basicirstd": (1, 2, 101, 65536),
    }


def test_without_a_target_rpcanet_counts_pixels_alone():
    found = count(sure(rectangles((60, 60, 4, 5))), rectangles(), PROTOCOLS["rpcanet"])
    assert found == Counts(
        n_images=1,
        n_left_out=1,
        n_undecided=1,
        n_pixels=65536,
        background_px=65536,
        fp_px=20,
        n_iou_images=1,
    )


def test_every_fragment_on_a_target_overlaps_it():
    fragments = sure(rectangles((20, 20, 2, 9), (26, 20, 2, 9), (90, 90, 1, 1)))
    c = count(fragments, rectangles((20, 20, 9, 9)), PROTOCOLS["rpcanet"])
    assert (c.n_targets, c.n_hits, c.n_predictions, c.n_false) == (1, 1, 3, 1)


def test_nothing_at_all_is_undefined_and_not_nan():
    assert set(figures(Counts()).values()) == {None}
    assert set(figures(Counts(), PUBLISHED).values()) == {0.0}
    result = figures(count(sure(rectangles()), rectangles()))
    assert {k for k, v in result.items() if v is not None} == {"fa", "pixel_fpr", "fa_per_image"}


def test_a_rule_that_decides_nothing_is_counted():
    nothing = rectangles()
    assert count(sure(nothing), nothing, PUBLISHED).n_undecided == 1
    zero = Map(np.zeros((256, 256), np.float32), are_logits=False)
    c = count(zero, rectangles(TRUTH), PUBLISHED)
    assert (c.n_undecided, c.tp_px, c.fp_px) == (1, 0, 0)
    assert count(zero, rectangles(TRUTH)).n_undecided == 0


@given(pairs)
def test_corrected_counts_equal_independent_oracles(pair):
    predicted, true = pair
    c = count(sure(predicted), true)
    result = figures(c)
    both, either = (predicted & true).sum(), (predicted | true).sum()
    assert (c.tp_px, c.fp_px + c.fn_px) == (both, either - both)
    if either:
        assert result["iou"] == both / either
        assert result["niou"] == pytest.approx(both / either)
        assert result["f1"] == pytest.approx(2 * both / (predicted.sum() + true.sum()))

    regions = [skimage.measure.regionprops(skimage.measure.label(m, connectivity=2)) for m in pair]
    n_predicted, n_true = map(len, regions)
    assert (c.n_predictions, c.n_targets) == (n_predicted, n_true)
    assert c.n_false == n_predicted - c.n_hits
    if n_predicted and n_true:
        near = cdist(*([r.centroid for r in found] for found in regions)) < 3
        assert c.n_hits == largest_matching(near)


def largest_matching(near):
    """Augmenting paths: the plainest way to the most pairs."""
    partner = {}

    def place(row, tried):
        for column in np.flatnonzero(near[row]):
            if column not in tried:
                tried.add(column)
                if column not in partner or place(partner[column], tried):
                    partner[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(near)))


logits = hnp.arrays(
    np.float32, (14, 14), elements=st.sampled_from([-6.0, -3.0, -0.5, 0.5, 3.0, 6.0])
)


@given(logits, hnp.arrays(bool, (14, 14)))
def test_published_counts_equal_the_plain_protocol(prediction, true):
    c = count(Map(prediction), true, PUBLISHED)
    tp, fp, fn, iou = plain.segmentation(prediction, true)
    assert (c.tp_px, c.fp_px, c.fn_px) == (tp, fp, fn)
    assert figures(c, PUBLISHED)["niou"] == pytest.approx(iou)
    assert (c.n_hits, c.fa_px, c.n_targets) == plain.detection(prediction > 0, true)


@given(st.lists(pairs, min_size=1, max_size=5), st.randoms(), st.sampled_from([*PROTOCOLS]))
def test_counts_merge_in_any_grouping(items, random, name):
    counts = [count(sure(predicted), true, PROTOCOLS[name]) for predicted, true in items]
    together = sum(counts, Counts())
    random.shuffle(counts)
    cut = random.randrange(len(counts))
    assert sum(counts[:cut], Counts()) + sum(counts[cut:], Counts()) == together


@given(masks)
def test_a_perfect_prediction(mask):
    c = count(sure(mask), mask)
    assert c.n_hits == c.n_targets == c.n_predictions and c.fa_px == c.n_false == 0
    result = figures(c)
    expected = 1 if mask.any() else None
    for name in ("iou", "niou", "f1", "pd", "target_f1", "seg_iou", "loc_iou", "hiou"):
        assert result[name] == expected, name


@given(pairs)
def test_targets_by_area_are_all_the_targets(pair):
    c = count(sure(pair[0]), pair[1])
    names = ("1_4", "5_9", "10_25", "over_25")
    assert sum(getattr(c, f"n_targets_{name}") for name in names) == c.n_targets
    assert sum(getattr(c, f"n_hits_{name}") for name in names) == c.n_hits


def test_shape_and_place_are_told_apart():
    truth = rectangles((50, 50, 4, 4), (90, 90, 4, 4))
    result = figures(count(sure(rectangles((50, 50, 4, 2), (200, 200, 1, 1))), truth))
    assert result["seg_iou"] == 0.5
    assert result["loc_iou"] == 1 / 3
    assert result["hiou"] == pytest.approx(1 / 6)
    assert result["target_precision"] == result["target_f1"] == 0.5
    assert result["fa_per_image"] == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_a_mask_of_numbers_is_refused(dtype):
    truth = rectangles(TRUTH)
    with pytest.raises(ValueError, match=r"expected \(H, W\) bool, such as mask > 0"):
        count(sure(truth), truth.astype(dtype))
    with pytest.raises(ValueError, match=r"expected \(H, W\) bool"):
        count(sure(truth), truth[None])
    with pytest.raises(ValueError, match="expected floats"):
        count(Map(truth.astype(np.uint8) * np.uint8(255), are_logits=False), truth)
    values = sure(truth).values.copy()
    values[0, 0] = np.nan
    with pytest.raises(ValueError, match="a value is NaN"):
        count(Map(values), truth)


def test_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ in size"):
        count(Map(np.zeros((3, 4), np.float32)), np.zeros((4, 3), bool))


def test_everything_a_target():
    everything = np.ones((40, 40), bool)
    c = compare(sure(everything), everything).counts
    assert (c.background_px, c.tp_px, c.n_targets, c.n_hits) == (0, 1600, 1, 1)
    assert figures(c)["pixel_fpr"] is None
