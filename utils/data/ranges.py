"""Grey levels of any camera to [0, 1]."""

import math
from argparse import ArgumentTypeError
from collections.abc import Iterator
from typing import Literal

import cv2
import numpy as np

RANGES = ("auto", "full", "percentile")

Limits = tuple[float, float]  # the grey levels that become 0 and 1
Range = Literal["auto", "full", "percentile"] | Limits

_PERCENTILES = (0.01, 99.99)  # passes over dead pixels, one in ten thousand
_REACH = 4  # how many times as far from the lower one the upper limit goes for bright targets
_WIDE = 1e38
_SAMPLED = 2**22  # pixels looked at at once; of floats, the pixels looked at
_SQUARE = {"kernel": np.ones((2, 2), np.uint8), "borderType": cv2.BORDER_REFLECT_101}


def level_range(text: str) -> Range:
    """``auto``, ``full``, ``percentile``, or two numbers ``LO,HI``; for ``type=``."""
    if text in RANGES:
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    try:
        return checked_range((low, high))
    except ValueError:
        raise ArgumentTypeError(
            f"{text} is not auto, full, percentile, or two different numbers LO,HI"
        ) from None


def checked_range(choice: Range) -> Range:
    """The choice, if it is one; raises ValueError otherwise."""
    if isinstance(choice, tuple) and len(choice) == 2:
        with np.errstate(over="ignore"):
            low, high = np.asarray(choice, np.float32)  # what images are computed in
            if np.isfinite(high - low) and low != high:
                return choice
    elif choice in RANGES:
        return choice
    raise ValueError(f"level range {choice}: expected auto, full, percentile or (low, high)")


def limits(levels: np.ndarray, choice: Range) -> Limits:
    """The grey levels that become 0 and 1.

    Args:
        levels: (H, W) uint8, uint16, or float32 without NaN and infinity.
        choice: "full": all that the type can hold, which for float32 is [0, 1]. "percentile": all
            but the darkest and the brightest ten-thousandth of the pixels, of 16 bits without
            those of 0 and 65535; where 2x2 pixels are brighter, a target, up to these, but not more
            than four times as far from the lower limit. "auto": "full" for uint8, and for deeper
            images that fill half of it, dead pixels aside, and a quarter without those
            ten-thousandths, which may be a glint or a border; else "percentile", for cameras that
            use a part of their 16 bits. Or the limits themselves: those with the higher one first
            make dark targets bright.
    """
    if isinstance(choice, tuple):
        return choice
    full = (0.0, float(np.iinfo(levels.dtype).max) if levels.dtype.kind == "u" else 1.0)
    if choice == "full" or (choice == "auto" and levels.dtype == np.uint8):
        return full
    high, scene = _brightest_square(levels), _percentiles(levels)
    if choice == "auto":
        low = _darkest_square(levels)
        fills = high - low >= full[1] / 2 and scene[1] - scene[0] >= full[1] / 4
        if fills and full[0] <= low and high <= full[1]:
            return full
    return _with_room(*scene, high)


def normalised(levels: np.ndarray, bounds: Limits) -> np.ndarray:
    """Levels to float32 in [0, 1]; those beyond the limits are clipped."""
    low, high = bounds
    scaled = levels.astype(np.float32)
    if abs(high - low) > _WIDE:  # the difference of two float32 could be none
        low, high = low / 4, high / 4
        scaled /= 4
    scaled -= np.float32(low)
    with np.errstate(over="ignore"):  # a level beyond the limits by more than float32 holds
        scaled /= np.float32(high - low)
    return np.clip(scaled, 0, 1, out=scaled)


def stretched(levels: np.ndarray, choice: Range) -> np.ndarray:
    """Levels to float32 in [0, 1], by limits of their own."""
    return normalised(levels, limits(levels, choice))


def _percentiles(levels: np.ndarray) -> Limits:
    if levels.dtype.kind == "u":
        counts = np.zeros(np.iinfo(levels.dtype).max + 1, np.int64)
        pixels = levels.ravel()
        for start in range(0, pixels.size, _SAMPLED):  # bincount makes 8 bytes of each pixel
            counts += np.bincount(pixels[start : start + _SAMPLED], minlength=len(counts))
        if levels.dtype == np.uint16 and counts[1:-1].any():  # borders and dead pixels hold these
            counts[[0, -1]] = 0
        passed = np.cumsum(counts) / counts.sum()
        low, high = (int(np.searchsorted(passed, p / 100)) for p in _PERCENTILES)
    else:
        stride = math.ceil(levels.size / _SAMPLED)
        while stride > 1 and math.gcd(stride, levels.shape[1]) > 1:  # else of some columns alone
            stride += 1
        sample = levels.ravel()[::stride].astype(np.float64)
        low, high = np.percentile(sample, _PERCENTILES).tolist()
    return low, high


def _with_room(low: float, high: float, brightest: float) -> Limits:
    """Percentiles widened for targets."""
    # a small target is less than a ten-thousandth of an image, and would be as bright as the noise
    high = max(high, min(brightest, low + _REACH * (high - low)))
    least = max(1.0, abs(low) * 2**-20) if low == high else abs(low) * 2**-20
    return float(low), float(max(high, low + least))  # an image of one level becomes 0


def _brightest_square(levels: np.ndarray) -> float:
    """The highest level that 2x2 pixels reach; dead pixels stand alone."""
    return max(float(cv2.erode(band, **_SQUARE).max()) for band in _bands(levels))


def _darkest_square(levels: np.ndarray) -> float:
    """The lowest level that 2x2 pixels do not pass."""
    return min(float(cv2.dilate(band, **_SQUARE).min()) for band in _bands(levels))


def _bands(levels: np.ndarray) -> Iterator[np.ndarray]:
    """Rows, the last of each band again in the next."""
    rows = max(1, _SAMPLED // levels.shape[1])
    for start in range(0, max(1, len(levels) - 1), rows):
        yield levels[start : start + rows + 1]
