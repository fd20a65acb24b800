"""Components of a mask, and which predicted one hits which true one."""

from typing import NamedTuple

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

HIT_DISTANCE = 3.0  # px


class Components(NamedTuple):
    """The 8-connected components of a mask."""

    centroids: np.ndarray  # (n, 2) float64: column, row
    areas: np.ndarray  # (n,) int64, px


def components(mask: np.ndarray) -> Components:
    """(H, W) bool -> its components."""
    _, _, stats, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return Components(centroids[1:], stats[1:, cv2.CC_STAT_AREA].astype(np.int64))


def match(true: Components, predicted: Components) -> list[tuple[int, int]]:
    """Pairs (true, predicted) with centroids less than 3 px apart, each component used once.

    Of all such assignments it is one with the most pairs, and among those the least total distance.
    """
    offsets = true.centroids[:, None] - predicted.centroids[None]
    distances = np.sqrt((offsets**2).sum(axis=2))
    near = distances < HIT_DISTANCE
    # A pair beyond the limit costs more than any number of pairs within it, so that the solver
    # takes one only where nothing else is left; gating its answer alone would lose hits.
    forbidden = HIT_DISTANCE * (min(distances.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(near, distances, forbidden))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if near[r, c]]
