"""Large images in overlapping tiles, in the memory of one tile and the maps."""

import math
from collections.abc import Callable

import numpy as np

Maps = tuple[np.ndarray, ...]  # (H, W) float32 each


def predict_tiles(
    image: np.ndarray, predict: Callable[[np.ndarray], Maps], side: int, overlap: int
) -> Maps:
    """Maps of an image from maps of its tiles.

    Where tiles overlap, the maps are the mean of theirs, weighted by the distance from the edge of
    each: the network knows least at an edge.

    Args:
        image: (H, W).
        predict: maps of a tile (h, w), h and w at most ``side``.
        side: px.
        overlap: px that neighbours share, or more, below ``side``.
    """
    rows, columns = (_spans(length, side, overlap) for length in image.shape)
    maps: Maps = ()
    for (top, bottom), down in rows:
        for (left, right), across in columns:
            window = slice(top, bottom), slice(left, right)
            found = predict(image[window])
            if not maps:
                maps = tuple(np.zeros(image.shape, np.float32) for _ in found)
            for whole, part in zip(maps, found, strict=True):
                whole[window] += part * down[:, None] * across
    return maps


def _spans(length: int, side: int, overlap: int) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Evenly spread spans of an axis, each with the weights of its pixels, which sum to 1."""
    count = max(1, math.ceil((length - overlap) / (side - overlap)))
    side = min(side, length)
    starts = np.linspace(0, length - side, count).round().astype(int).tolist()
    from_edge = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1.0
    sums = np.zeros(length)
    profiles = []
    for start in starts:
        profile = from_edge.copy()
        if start == 0:  # the edge of the image, where there is no other tile
            profile[: side // 2] = side
        if start + side == length:
            profile[side // 2 :] = side
        sums[start : start + side] += profile
        profiles.append(profile)
    return [
        ((start, start + side), (profile / sums[start : start + side]).astype(np.float32))
        for start, profile in zip(starts, profiles, strict=True)
    ]
