"""Components of a target map, with what can be said about each."""

from typing import NamedTuple

import cv2
import numpy as np
from scipy.special import expit, logit

from ..data.images import row_blocks
from ..data.ranges import Limits, normalised

_RING = 10  # px around a box that its contrast is taken against


class Detection(NamedTuple):
    """An 8-connected component of pixels whose probability exceeds the threshold."""

    x: float  # of the centroid, px; the first column of pixels is 0
    y: float  # of the centroid, px; the first row is 0
    left: int  # first column of the box
    top: int  # first row of the box
    width: int  # px
    height: int  # px
    area: int  # px
    peak: float  # largest probability
    mean: float  # mean probability
    contrast: float  # mean grey level less that of the surroundings, both in [0, 1]
    peak_logit: float  # of the largest probability: it ranks those that are all but 1


def detect(
    logits: np.ndarray, levels: np.ndarray, limits: Limits, threshold: float, min_area: int
) -> tuple[np.ndarray, list[Detection]]:
    """The components of a target map.

    The contrast of a component is the difference of two means of the normalised grey levels: over
    its pixels, and over those of its box widened by 10 px that no component holds; 0 where there
    are none.

    Args:
        logits: (H, W) float32.
        levels: (H, W), the image.
        limits: the grey levels that the network saw as 0 and 1.
        threshold: of the probability, which must exceed it; in (0, 1).
        min_area: px; smaller components are left out.

    Returns:
        The mask of the components, (H, W) bool, and the components, the highest peak first.
    """
    mask = logits > np.float32(logit(threshold))
    count, labels, boxes, centroids = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=8
    )
    areas = boxes[:, cv2.CC_STAT_AREA]
    kept = areas >= min_area
    kept[0] = False  # the background
    if not kept[1:].all():
        mask = kept[labels]
    peaks, sums = _probabilities(logits, labels, count)
    found = [
        Detection(
            *centroids[k].tolist(),
            *boxes[k, :4].tolist(),
            int(areas[k]),
            float(expit(peaks[k])),
            float(sums[k] / areas[k]),
            _contrast(levels, limits, labels, mask, k, *boxes[k, :4].tolist()),
            float(peaks[k]),
        )
        for k in np.flatnonzero(kept).tolist()
    ]
    return mask, sorted(found, key=lambda d: (-d.peak_logit, d.top, d.left))


def _probabilities(
    logits: np.ndarray, labels: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Largest logit and summed probability of each label."""
    peaks, sums = np.full(count, -np.inf), np.zeros(count)
    for rows in row_blocks(logits):
        part = labels[rows]
        inside = part > 0
        k, values = part[inside], logits[rows][inside].astype(np.float64)
        np.maximum.at(peaks, k, values)
        sums += np.bincount(k, expit(values), count)
    return peaks, sums


def _contrast(
    levels: np.ndarray,
    limits: Limits,
    labels: np.ndarray,
    mask: np.ndarray,
    k: int,
    left: int,
    top: int,
    width: int,
    height: int,
) -> float:
    window = (
        slice(max(0, top - _RING), top + height + _RING),
        slice(max(0, left - _RING), left + width + _RING),
    )
    around = ~mask[window]
    if not around.any():
        return 0.0
    grey = normalised(levels[window], limits)
    return float(grey[labels[window] == k].mean(dtype=float) - grey[around].mean(dtype=float))
