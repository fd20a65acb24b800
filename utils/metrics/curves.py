"""Curves over thresholds: ROC and precision-recall of pixels, FROC of targets, published ROC.

Each kind is a set of sums of a fixed size, whatever the number of images.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .counts import Sums
from .maps import Map
from .matching import Components, assign, unordered_components
from .protocols import CORRECTED

BINS = 1 << 16
# fine where probabilities are undecided, then far out: trained networks reach logits of 300
FROC_LOGITS = np.r_[np.arange(-4, 8, 0.5), 2 ** np.arange(3, 10 + 1 / 16, 1 / 16)].astype("f4")
_MINUS_INFINITY = 0xFF80  # the bin
ROC_STEPS = 200  # of the published ROC


class Curve(NamedTuple):
    """Points of a curve, from the highest threshold to the lowest."""

    thresholds: np.ndarray
    x: np.ndarray
    y: np.ndarray


def _zeros(*shape: int) -> np.ndarray:
    return field(default_factory=lambda: np.zeros(shape, np.int64))


@dataclass(frozen=True)
class PixelSums(Sums):
    """Histograms of logits, of all pixels and of those of targets.

    A bin is the upper half of the 32 bits of a float32: 2 ** 16 thresholds, 0.8 % apart, close
    enough to keep all levels of an 8-bit probability apart.
    """

    pixels: np.ndarray = _zeros(BINS)
    targets: np.ndarray = _zeros(BINS)


def pixel_sums(prediction: Map, true: np.ndarray) -> PixelSums:
    """The histograms of one image; ``true`` is (H, W) bool."""
    logits = np.ascontiguousarray(prediction.logits(), np.float32)
    bits = (logits + 0.0).view(np.uint32)  # -0.0 and 0.0 are one threshold
    bins = (bits >> 16).astype(np.intp)
    return PixelSums(
        np.bincount(bins.ravel(), minlength=BINS), np.bincount(bins[true], minlength=BINS)
    )


def roc(sums: PixelSums) -> Curve:
    """Shares of background and of target pixels at or above each threshold."""
    logits, pixels, targets = _descending(sums)
    return Curve(logits, _share(pixels - targets), _share(targets))


def precision_recall(sums: PixelSums) -> Curve:
    """x: recall, y: precision, of pixels, at each threshold that some pixel reaches."""
    logits, pixels, targets = _descending(sums)
    return Curve(logits[1:], _share(targets)[1:], targets[1:] / pixels[1:])


def roc_auc(curve: Curve) -> float | None:
    """Area under a ROC curve by trapezia; None where it is not defined."""
    if not len(curve.x) or np.isnan(curve.x).any() or np.isnan(curve.y).any():
        return None
    return float((np.diff(curve.x) * (curve.y[1:] + curve.y[:-1]) / 2).sum())


def average_precision(curve: Curve) -> float | None:
    """Sum of precision over the steps of recall; None without target pixels."""
    if not len(curve.x) or np.isnan(curve.x).any():
        return None
    return float((np.diff(curve.x, prepend=0.0) * curve.y).sum())


@dataclass(frozen=True)
class FrocSums(Sums):
    """Hits and false pixels of the corrected protocol at each of `FROC_LOGITS`."""

    hits: np.ndarray = _zeros(len(FROC_LOGITS))
    fa_px: np.ndarray = _zeros(len(FROC_LOGITS))
    n_targets: int = 0
    n_pixels: int = 0


def froc_sums(prediction: Map, true: Components) -> FrocSums:
    """The sums of one image; ``true`` are the components of its mask."""
    logits = prediction.logits()
    hits, fa_px = np.zeros((2, len(FROC_LOGITS)), np.int64)
    blobs, before = None, -1
    for i, threshold in enumerate(FROC_LOGITS):
        detected = (blobs.logits if blobs else logits) > threshold
        area = np.count_nonzero(detected)
        if not area:
            break
        if area == before:  # nothing lies between the two thresholds
            hits[i], fa_px[i] = hits[i - 1], fa_px[i - 1]
            continue
        before = area
        if blobs:
            centroids, areas = blobs.components(detected)
        else:
            labels, centroids, areas = unordered_components(detected)
            blobs = _Blobs.cut(logits, labels, areas)
        pairs = assign(true.centroids, centroids, CORRECTED.distance)
        hits[i], fa_px[i] = len(pairs), area - sum(int(areas[p]) for _, p in pairs)
    return FrocSums(hits, fa_px, len(true.areas), logits.size)


def froc(sums: FrocSums) -> Curve:
    """x: fa, y: pd, at each threshold."""
    x = sums.fa_px[::-1] / (sums.n_pixels or np.nan)
    return Curve(FROC_LOGITS[::-1], x, sums.hits[::-1] / (sums.n_targets or np.nan))


def pd_at(curve: Curve, fa: float) -> float | None:
    """The highest Pd of the thresholds whose Fa is at most this; 0 where there is none."""
    if np.isnan(curve.x).any() or np.isnan(curve.y).any():
        return None
    return float(curve.y[curve.x <= fa].max(initial=0.0))


@dataclass(frozen=True)
class TargetSums(Sums):
    """The published ROC: false pixels and touched targets at each threshold k / 200."""

    false_px: np.ndarray = _zeros(ROC_STEPS + 1)
    touched: np.ndarray = _zeros(ROC_STEPS + 1)
    background_px: int = 0
    n_targets: int = 0


def target_sums(prediction: Map, true: Components) -> TargetSums:
    """The sums of one image; zero where it has no target."""
    if not len(true.areas):
        return TargetSums()
    thresholds = np.arange(ROC_STEPS + 1) / ROC_STEPS
    # how many thresholds a pixel reaches; all reach the first, 0, and most no other
    scores = prediction.relative.ravel()
    reached = np.ones(scores.size, np.int64)
    high = np.flatnonzero(scores >= thresholds[1])
    reached[high] = np.searchsorted(thresholds, scores[high], side="right")
    labels = true.labels.ravel()
    inside = labels > 0
    best = np.zeros(len(true.areas), np.int64)
    np.maximum.at(best, labels[inside] - 1, reached[inside])
    return TargetSums(
        _at_least(reached[~inside]),
        _at_least(best),
        int(np.count_nonzero(~inside)),
        len(true.areas),
    )


def target_roc(sums: TargetSums) -> Curve:
    """x: false pixels over background; y: targets with a pixel at or over the threshold."""
    x = sums.false_px[::-1] / (sums.background_px or np.nan)
    y = sums.touched[::-1] / (sums.n_targets or np.nan)
    return Curve(np.arange(ROC_STEPS, -1, -1) / ROC_STEPS, x, y)


def _descending(sums: PixelSums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits from the highest, and the pixels at or above each; begins with none at infinity."""
    positive, negative = slice(0, BINS // 2), slice(BINS // 2, BINS)
    # the bits of positive numbers ascend with their value, those of negative ones descend
    order = np.r_[np.arange(BINS)[positive][::-1], np.arange(BINS)[negative]]
    order = order[sums.pixels[order] > 0]
    bits = order.astype(np.uint32) << 16
    # the end of a bin that lies next to minus infinity, which itself has a bin of its own
    bits[(order >= BINS // 2) & (order != _MINUS_INFINITY)] |= 0xFFFF
    logits = bits.view(np.float32)
    pixels, targets = sums.pixels[order].cumsum(), sums.targets[order].cumsum()
    return np.r_[np.float32(np.inf), logits], np.r_[0, pixels], np.r_[0, targets]


def _share(cumulated: np.ndarray) -> np.ndarray:
    return cumulated / (cumulated[-1] or np.nan)


def _at_least(reached: np.ndarray) -> np.ndarray:
    """How many reach each threshold, from how many thresholds each reaches."""
    exactly = np.bincount(reached, minlength=ROC_STEPS + 2)
    return exactly[::-1].cumsum()[::-1][1:]


class _Blobs(NamedTuple):
    """The components of a low threshold, cut out and laid side by side.

    At higher thresholds all that is left lies within them: a small image to label instead of the
    whole one.
    """

    logits: np.ndarray  # (h, w): the blobs, a column apart, -inf around them
    columns: np.ndarray  # (n,) where each begins in it
    origins: np.ndarray  # (n, 2) column, row of its corner in the image, less that in the mosaic

    @classmethod
    def cut(cls, logits: np.ndarray, labels: np.ndarray, areas: np.ndarray) -> "_Blobs | None":
        """None where that would be no small image: many blobs, or a tall one among others."""
        if areas.sum() >= logits.size // 8:
            return None
        n = len(areas)
        pixels = np.flatnonzero(labels)
        owner = labels.ravel()[pixels] - 1
        rows, columns = np.divmod(pixels, labels.shape[1])
        points = np.stack([columns, rows], axis=1)
        corner = np.full((n, 2), np.iinfo(np.int64).max)
        end = np.zeros_like(corner)
        np.minimum.at(corner, owner, points)
        np.maximum.at(end, owner, points + 1)
        size = end - corner
        begins = np.r_[0, (size[:, 0] + 1).cumsum()]
        if size[:, 1].max() * begins[-1] > logits.size:
            return None
        mosaic = np.full((size[:, 1].max(), begins[-1]), -np.inf, np.float32)
        origins = corner - np.stack([begins[:-1], np.zeros(n, np.int64)], axis=1)
        at = points - origins[owner]
        mosaic[at[:, 1], at[:, 0]] = logits.ravel()[pixels]
        return cls(mosaic, begins[:-1], origins)

    def components(self, detected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centroids in the image, and areas, of what is detected in the mosaic."""
        _, centroids, areas = unordered_components(detected)
        blob = np.searchsorted(self.columns, centroids[:, 0], side="right") - 1
        return centroids + self.origins[blob], areas
