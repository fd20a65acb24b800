"""Components of a mask, and which predicted one hits which true one."""

from typing import NamedTuple

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from .protocols import Protocol

Match = tuple[int, int]  # index of the true component, of the predicted one


class Components(NamedTuple):
    """The 8-connected components of a mask."""

    labels: np.ndarray  # (H, W) int32: 0 outside, i + 1 in component i
    centroids: np.ndarray  # (n, 2) float64: column, row
    areas: np.ndarray  # (n,) integers, px


def components(mask: np.ndarray) -> Components:
    """(H, W) bool -> its components, in the raster order of their first pixels."""
    # The variant with statistics costs four times as much and numbers in an order of its own.
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    pixels = np.flatnonzero(mask)
    of = labels.ravel()[pixels]
    first = np.empty(count, np.int64)
    first[of[::-1]] = pixels[::-1]  # the last write is the first pixel
    order = np.argsort(first[1:]) + 1
    if (order[1:] < order[:-1]).any():
        rank = np.zeros(count, labels.dtype)
        rank[order] = np.arange(1, count)
        labels, of = rank[labels], rank[of]
    rows, columns = np.divmod(pixels, mask.shape[1])
    areas = np.bincount(of, minlength=count)[1:]
    sums = [np.bincount(of, weights=xs, minlength=count)[1:] for xs in (columns, rows)]
    centroids = np.stack(sums, axis=1) / areas[:, None]
    return Components(labels, centroids, areas)


def unordered_components(mask: np.ndarray) -> Components:
    """`components` in any order: faster where there is much in the mask."""
    _, labels, stats, centroids = cv2.connectedComponentsWithStatsWithAlgorithm(
        mask.view(np.uint8), 8, cv2.CV_32S, cv2.CCL_GRANA
    )
    return Components(labels, centroids[1:], stats[1:, cv2.CC_STAT_AREA])


def match(true: Components, predicted: Components, protocol: Protocol) -> list[Match]:
    """The hits, by the protocol's rule, in the order of the true components.

    With "overlap" a predicted component can hit several true ones; a true one is listed once, with
    the predicted component that shares most pixels with it.
    """
    if protocol.matching == "overlap":
        return _overlaps(true, predicted)
    if protocol.matching == "assignment":
        return assign(true.centroids, predicted.centroids, protocol.distance)
    return _first(_distances(true.centroids, predicted.centroids), protocol.distance)


def assign(true: np.ndarray, predicted: np.ndarray, limit: float) -> list[Match]:
    """The matching of the corrected protocol.

    Of all assignments of points less than ``limit`` px apart it is one with the most pairs, and
    among those the least total distance.

    Args:
        true: (n, 2) centroids.
        predicted: (m, 2) centroids.
        limit: px.
    """
    if not len(true) or not len(predicted):
        return []
    distances = _distances(true, predicted)
    near = distances < limit
    of_row, of_column = near.sum(axis=1), near.sum(axis=0)
    if of_row.max() <= 1 and of_column.max() <= 1:  # no choice to make
        return [(int(t), int(p)) for t, p in zip(*np.nonzero(near), strict=True)]
    # Points with no other within the limit cannot be matched; the rest is a small problem.
    rows, columns = np.flatnonzero(of_row), np.flatnonzero(of_column)
    near, distances = near[np.ix_(rows, columns)], distances[np.ix_(rows, columns)]
    # A pair beyond the limit costs more than any number of pairs within it, so that the solver
    # takes one only where nothing else is left; gating its answer alone would lose hits.
    forbidden = limit * (min(near.shape) + 1)
    solved = linear_sum_assignment(np.where(near, distances, forbidden))
    return [(int(rows[t]), int(columns[p])) for t, p in zip(*solved, strict=True) if near[t, p]]


def intersections(true: Components, predicted: Components) -> np.ndarray:
    """(n_true, n_predicted) int64: pixels in both."""
    both = np.flatnonzero((true.labels > 0) & (predicted.labels > 0))
    n, m = len(true.areas), len(predicted.areas)
    t, p = true.labels.ravel()[both], predicted.labels.ravel()[both]
    return np.bincount((t - 1).astype(np.int64) * m + (p - 1), minlength=n * m).reshape(n, m)


def hit_by(
    pairs: list[Match], true: Components, predicted: Components, protocol: Protocol
) -> np.ndarray:
    """(n_predicted,) bool: which are no false alarm: those of some pair, with "overlap" all that
    share a pixel with a true one."""
    if protocol.matching == "overlap":
        return intersections(true, predicted).any(axis=0)
    hit = np.zeros(len(predicted.areas), bool)
    hit[[p for _, p in pairs]] = True
    return hit


def _distances(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    x, y = (true[:, None] - predicted[None]).transpose(2, 0, 1)
    return np.sqrt(x * x + y * y)


def _first(distances: np.ndarray, limit: float) -> list[Match]:
    free = np.ones(distances.shape[1], bool)
    pairs = []
    for t, row in enumerate(distances):
        candidates = np.flatnonzero((row < limit) & free)
        if len(candidates):
            free[candidates[0]] = False
            pairs.append((t, int(candidates[0])))
    return pairs


def _overlaps(true: Components, predicted: Components) -> list[Match]:
    shared = intersections(true, predicted)
    return [(int(t), int(shared[t].argmax())) for t in np.flatnonzero(shared.any(axis=1))]
