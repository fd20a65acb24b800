"""Targets as a lens and a sensor show them, pasted on any background."""

from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.random import RandomState
from scipy.signal import fftconvolve
from scipy.special import j1

from .scenes import LEAST_CLUTTER, TOP_LEVEL, between, local_deviation

Psf = Literal["airy", "gaussian"]
PSFS: tuple[Psf, ...] = ("airy", "gaussian")

_FINE = 9  # points along a pixel; odd, so that one is its middle
_REACH = 3.0  # widths at half height, the middle of a point spread to its edge
_AIRY_WIDTH = 1.02899  # wavelengths times f-number, its width at half height
_GAP = 2  # px, at least, between two targets
_ROUNDNESS = 0.6  # the least that one axis is of the other
_DIGITS = 6  # of a shape; what the last bits of a transform are does not matter


class Kind(NamedTuple):
    """What targets are drawn from: each value evenly from its range."""

    diameter: tuple[float, float]  # px, the longer of the target itself; 0 for a point
    blur: float  # px, width of the point spread at half its height
    psf: Psf
    scr: tuple[float, float]  # peak signal-to-clutter ratio


class Pasted(NamedTuple):
    """Ground truth of one target.

    Its peak signal-to-clutter ratio is its highest pixel, above what was there, over ``clutter``:
    the standard deviation of the background in the 17 x 17 window around it, 2 grey levels at
    least.
    """

    row: float  # of its middle, px; a pixel's own middle is a whole number
    column: float
    diameter: float  # px, the mean of its two axes, before the blur
    area: int  # mask pixels
    peak: float  # grey levels, before rounding
    clutter: float  # grey levels
    scr: float


def paste(
    rng: RandomState, background: np.ndarray, count: int, kind: Kind
) -> tuple[np.ndarray, np.ndarray, list[Pasted]]:
    """Add targets where they fit: apart, off the edge, and not so bright that they saturate.

    Args:
        rng: of all that is drawn.
        background: (H, W) uint8.
        count: of targets; fewer are pasted where the background has no place for them.
        kind: of the targets.

    Returns:
        Image and mask, (H, W) uint8 each, 255 where a target has half its height or more; and the
        targets in it.
    """
    clutter = np.maximum(local_deviation(background), LEAST_CLUTTER)
    lit, mask, targets = background.astype(np.float64), np.zeros_like(background), []
    taken = np.zeros_like(background)
    for _ in range(count):
        scr = between(rng, *kind.scr)
        shape, diameter, offset = _draw_shape(rng, kind)
        reach = len(shape) // 2
        peaks = scr * clutter
        place = _place(rng, taken, _highest(background, shape) + peaks <= TOP_LEVEL, reach)
        if place is None:
            continue
        square = tuple(slice(at - reach, at + reach + 1) for at in place)
        lit[square] += peaks[place] * shape
        mask[square][shape >= 0.5] = 255
        taken[square] = 1
        targets.append(
            Pasted(
                place[0] + offset[0],
                place[1] + offset[1],
                diameter,
                int(np.count_nonzero(shape >= 0.5)),
                float(peaks[place]),
                float(clutter[place]),
                scr,
            )
        )
    return np.floor(np.clip(lit, 0, 255) + 0.5).astype(np.uint8), mask, targets


def _draw_shape(rng: RandomState, kind: Kind) -> tuple[np.ndarray, float, tuple[float, float]]:
    """A target's shape, its diameter, and where its middle is in the middle pixel."""
    longer = between(rng, *kind.diameter)
    axes = longer, longer * between(rng, _ROUNDNESS, 1.0)
    offset = between(rng, -0.5, 0.5), between(rng, -0.5, 0.5)
    angle = np.pi * rng.random_sample()
    return target_shape(axes, angle, offset, kind.blur, kind.psf), sum(axes) / 2, offset


def target_shape(
    axes: tuple[float, float], angle: float, offset: tuple[float, float], blur: float, psf: Psf
) -> np.ndarray:
    """An evenly bright ellipse, through a lens, on the pixels of a sensor.

    Args:
        axes: px, its two diameters; 0 for a point.
        angle: of the first axis, radians.
        offset: row and column of its middle from that of the middle pixel, px.
        blur: px, width of the point spread at half its height.
        psf: "airy", of a round aperture in focus: (2 J1(v) / v)^2; or "gaussian".

    Returns:
        (n, n) float64, n odd: the light of each pixel, 1 where there is most.
    """
    reach = int(np.ceil(max(axes) / 2 + _REACH * blur)) + 1  # px
    pixels = 2 * reach + 1
    at = (np.arange(pixels * _FINE) - pixels * _FINE // 2) / _FINE  # px
    rows, columns = at[:, None], at[None, :]
    along = rows * np.sin(angle) + columns * np.cos(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    first, second = (max(axis, 1 / _FINE) / 2 for axis in axes)
    ellipse = (along / first) ** 2 + (across / second) ** 2 <= 1
    distance = np.hypot(rows - offset[0], columns - offset[1])
    light = fftconvolve(ellipse.astype(np.float64), _point_spread(distance, blur, psf), "same")
    shape = light.reshape(pixels, _FINE, pixels, _FINE).mean(axis=(1, 3))
    return np.round(np.maximum(shape / shape.max(), 0), _DIGITS)


def _point_spread(distance: np.ndarray, width: float, psf: Psf) -> np.ndarray:
    """The light at a distance from the middle; ``width`` is that at half its height."""
    if psf == "gaussian":
        return np.exp(-4 * np.log(2) * (distance / width) ** 2)
    v = np.maximum(np.pi * _AIRY_WIDTH * distance / width, 1e-9)
    return (2 * j1(v) / v) ** 2


def _highest(background: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """The highest level under the bright part of a target, wherever it is put."""
    bright = (shape >= 0.5).astype(np.uint8)
    return cv2.dilate(background, bright).astype(np.float64)


def _place(
    rng: RandomState, taken: np.ndarray, allowed: np.ndarray, reach: int
) -> tuple[int, int] | None:
    """A pixel, if there is one, that is allowed, off the edge and apart from what is taken."""
    side = 2 * (reach + _GAP) + 1
    near = cv2.dilate(taken, np.ones((side, side), np.uint8))
    inside = np.zeros(taken.shape, bool)
    inside[reach : taken.shape[0] - reach, reach : taken.shape[1] - reach] = True
    rows, columns = np.nonzero(allowed & inside & (near == 0))
    if not len(rows):
        return None
    choice = int(rng.random_sample() * len(rows))
    return int(rows[choice]), int(columns[choice])
