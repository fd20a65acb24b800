from dataclasses import astuple

import numpy as np
import pytest

from utils.metrics.counts import Counts, figures
from utils.metrics.intervals import REPLICATES, empty, interval, resampled, samples
from utils.metrics.protocols import CORRECTED, PUBLISHED


def one(tp, fp):
    return Counts(n_images=1, tp_px=tp, fp_px=fp, n_pixels=100, fa_of_px=100, fa_px=fp)


def test_an_image_is_resampled_alike_wherever_it_is_scored():
    a = resampled("scene", one(3, 1), seed=0)
    np.testing.assert_array_equal(a, resampled("scene", one(3, 1), seed=0))
    assert (a != resampled("scene", one(3, 1), seed=1)).any()
    assert (a != resampled("other", one(3, 1), seed=0)).any()
    times = a[:, 0]
    assert a.shape == (REPLICATES, len(astuple(Counts()))) and a.dtype == np.int64
    assert abs(times.mean() - 1) < 0.15 and abs(times.var() - 1) < 0.2


def test_intervals_are_those_of_drawing_images_with_replacement():
    random = np.random.default_rng(0)
    images = [one(int(tp), int(fp)) for tp, fp in random.integers(0, 30, (150, 2))]
    replicates = sum((resampled(str(i), c, 0) for i, c in enumerate(images)), empty())
    found = interval(samples(replicates, CORRECTED)["iou"])
    drawn = [
        figures(sum((images[i] for i in random.integers(0, 150, 150)), Counts()))["iou"]
        for _ in range(400)
    ]
    assert found == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.01)
    whole = figures(sum(images, Counts()))["iou"]
    assert found[0] < whole < found[1]


def test_what_no_replicate_defines_has_no_interval():
    replicates = resampled("a", one(0, 0), 0)
    assert interval(samples(replicates, CORRECTED)["iou"]) is None
    assert interval(samples(replicates, PUBLISHED)["iou"]) is None
    assert interval(samples(replicates, CORRECTED)["fa"]) == [0, 0]
