"""Infrared-like scenes with small targets, drawn from a seed: the same bytes on every machine.

A random number comes from ``RandomState.random_sample`` alone, as NumPy has frozen its stream.
Arithmetic is float64 ``+ - * /``, square root, floor and comparison, which IEEE 754 rounds the
same everywhere. exp, sin, FFT, matrix products and sums of floats may differ in the last bit from
one processor to the next, and are absent: textures are interpolated lattices, Gaussian shapes are
polynomials, and statistics are sums of integers.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import RandomState

Array = np.ndarray

LEAST_CLUTTER = 2.0  # grey levels: keeps targets on a noiseless sky clear of the rounding
TOP_LEVEL = 250.0  # grey levels, the most a target's peak may reach
_SMALLEST_SIDE = 16  # px
_LARGEST_AREA = 9  # mask pixels
_LARGEST_SCR = 100.0

_COUNTS = (0, 1, 1, 1, 2, 2, 3, 4)  # targets, where their number is random; all equally likely
_CELLS = 64  # side of a noise lattice; a power of two, for it wraps by a bit mask
_BLOB_REACH = 4  # px, centre of a blob to the edge of its square
_SPACING = 2 * _BLOB_REACH  # px, along rows or columns: no blob reaches the peak of another
_WINDOW_REACH = 8  # px, centre of the window of local clutter to its edge


class Target(NamedTuple):
    """One target, as ground truth.

    ``scr``, the peak signal-to-clutter ratio, is the amplitude added over the standard deviation
    of the 17 x 17 window around it before it was added, taken as no less than that of the sensor
    noise and 2 grey levels.
    """

    row: float  # centroid of its mask pixels, px
    column: float
    area: int  # mask pixels, 1..9
    scr: float


class Scene(NamedTuple):
    image: Array  # (H, W) uint8
    mask: Array  # (H, W) uint8, 0 or 255
    targets: tuple[Target, ...]


def make_scene(
    seed: int,
    height: int = 128,
    width: int = 128,
    *,
    n_targets: int | None = None,
    scr: tuple[float, float] = (4.0, 10.0),
) -> Scene:
    """A scene of its own for every seed. A larger one is a wider view at the same scale.

    Args:
        seed: 0..2**32 - 1.
        height, width: px, at least 16.
        n_targets: at most one per 16 x 16 px; None for 0..4, none in one scene out of eight.
        scr: the range the targets' peak signal-to-clutter ratios are drawn from, within 0..100.

    Raises:
        ValueError: an argument outside its range.
    """
    most = (height // 16) * (width // 16)  # each keeps the others out of 15 x 15 px: there is room
    if min(height, width) < _SMALLEST_SIDE:
        raise ValueError(f"a scene has at least 16 x 16 pixels, not {height} x {width}")
    if n_targets is not None and not 0 <= n_targets <= most:
        raise ValueError(f"{height} x {width} pixels hold 0 to {most} targets, not {n_targets}")
    if not 0 < scr[0] <= scr[1] <= _LARGEST_SCR:
        raise ValueError(f"scr is a range (low, high) within 0..100, not {scr}")

    rng = RandomState(seed)
    rows = np.arange(height, dtype=np.float64)[:, None]  # (H, 1)
    columns = np.arange(width, dtype=np.float64)[None, :]  # (1, W)
    background, *contrast = _choose(rng, _BACKGROUNDS)
    image = _expose(rng, background(rng, rows, columns), *contrast)
    image = _optics(rng, image, rows, columns)
    image, noise = _sensor(rng, image)
    count = min(_choose(rng, _COUNTS), most) if n_targets is None else n_targets
    return _add_targets(rng, image, noise, [between(rng, *scr) for _ in range(count)])


# Random numbers and textures


def between(rng: RandomState, low: float, high: float) -> float:
    """A random number in [low, high)."""
    return low + (high - low) * rng.random_sample()


def _choose(rng: RandomState, options: Sequence[Any]) -> Any:
    return options[int(rng.random_sample() * len(options))]


def _ramp(values: Array, low: float, high: float) -> Array:
    """0 below ``low``, 1 above ``high``, the smoothstep polynomial between."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _turn(rng: RandomState, rows: Array, columns: Array) -> tuple[Array, Array]:
    """The coordinates along and across a random direction."""
    t = between(rng, -1.0, 1.0)  # the tangent of half the angle: no sine needed
    cosine, sine = (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)
    return cosine * rows - sine * columns, sine * rows + cosine * columns


def _noise(rng: RandomState, rows: Array, columns: Array) -> Array:
    """Value noise in 0..1: random at whole coordinates, smooth between."""
    lattice = rng.random_sample(_CELLS * _CELLS)
    top, left = np.floor(rows), np.floor(columns)
    down, right = _ramp(rows - top, 0.0, 1.0), _ramp(columns - left, 0.0, 1.0)
    i, j = top.astype(np.int64), left.astype(np.int64)
    upper, lower = (i & (_CELLS - 1)) * _CELLS, ((i + 1) & (_CELLS - 1)) * _CELLS
    left, after = j & (_CELLS - 1), (j + 1) & (_CELLS - 1)
    above = lattice[upper + left] * (1.0 - right) + lattice[upper + after] * right
    below = lattice[lower + left] * (1.0 - right) + lattice[lower + after] * right
    return above * (1.0 - down) + below * down


def _fractal(
    rng: RandomState, rows: Array, columns: Array, octaves: int = 5, roughness: float = 0.5
) -> Array:
    """Noise over noise of half the size and ``roughness`` times the weight; mostly in 0..1."""
    total, weight, weights = 0.0, 1.0, 0.0
    for _ in range(octaves):
        total = total + weight * _noise(rng, rows, columns)
        weights += weight
        weight *= roughness
        # twice as fine, and turned (by the angle of a 3-4-5 triangle) to hide the lattice
        rows, columns = 1.2 * rows - 1.6 * columns, 1.6 * rows + 1.2 * columns
    return 0.5 + 1.8 * (total / weights - 0.5)


# Backgrounds: coordinates (H, 1) and (1, W) in pixels -> radiance (H, W) in a unit of its own


def _clouds(rng: RandomState, rows: Array, columns: Array) -> Array:
    """Drifting banks with soft or sharp edges, in one direction."""
    size, stretch = between(rng, 20.0, 70.0), between(rng, 1.0, 3.5)
    along, across = _turn(rng, rows / size, columns / size)
    across = across / stretch
    swirl = between(rng, 0.2, 0.8)
    across = across + swirl * _noise(rng, 1.5 * along, 1.5 * across)
    along = along + swirl * _noise(rng, 1.5 * along, 1.5 * across)
    density = _fractal(rng, along, across, 6, between(rng, 0.45, 0.65))
    cover = between(rng, 0.25, 0.55)
    bank = _ramp(density, cover, cover + between(rng, 0.1, 0.7))
    billows = _fractal(rng, 4.0 * along, 4.0 * across, 3)
    slope = between(rng, -0.5, 0.5) * rows / len(rows)
    return bank * (0.2 + density + between(rng, 0.0, 0.5) * billows) + slope


def _clear_sky(rng: RandomState, rows: Array, columns: Array) -> Array:
    """A slope of brightness under a veil of thin cloud."""
    along, across = _turn(rng, rows / 60.0, columns / 60.0)
    veil = _fractal(rng, along, across / between(rng, 1.0, 5.0), 4)
    return between(rng, 0.2, 1.5) * along / (1.0 + len(rows) / 60.0) + 0.7 * veil


def _sky(rng: RandomState, rows: Array, columns: Array) -> Array:
    """What lies above a horizon: mostly clear."""
    return _choose(rng, (_clouds, _clear_sky, _clear_sky))(rng, rows, columns)


def _sea(rng: RandomState, rows: Array, columns: Array) -> Array:
    """Streaks that get finer towards the horizon, and glints on a sunlit path."""
    horizon = between(rng, -0.6, 0.6) * len(rows)
    below = np.maximum(rows - horizon, 0.0) + 1.0
    step = np.sqrt(below) * between(rng, 0.5, 0.9)  # px, height of a streak
    centre = between(rng, 0.0, columns.size)
    waves = _fractal(
        rng, below / step * 2.0, (columns - centre) / (step * between(rng, 4.0, 9.0)), 4, 0.6
    )
    path = np.abs(columns - centre) / (8.0 + between(rng, 0.1, 0.8) * below)
    glints = between(rng, 0.0, 1.5) * _ramp(waves, 0.6, 1.0) * (1.0 - _ramp(path, 0.3, 1.5))
    water = 0.7 * waves * _ramp(below, -20.0, 40.0) + glints
    sky = between(rng, -0.3, 1.0) + between(rng, 0.1, 0.5) * _sky(rng, rows, columns)
    shore = _ramp(rows, horizon - 0.7, horizon + 0.7)
    return sky * (1.0 - shore) + water * shore


def _hills(rng: RandomState, rows: Array, columns: Array) -> Array:
    """Ridges one before the other, smooth or wooded, under the sky."""
    scene = _sky(rng, rows, columns) * between(rng, 0.1, 0.7)
    crest = between(rng, 0.2, 0.8)
    for _ in range(1 + int(between(rng, 0.0, 3.0))):
        size, roughness = between(rng, 30.0, 90.0), between(rng, 0.3, 0.65)
        profile = _fractal(rng, np.zeros((1, 1)), columns / size, 6, roughness)
        ridge = crest * len(rows) - 0.5 * size * (profile - 0.5)
        grain = between(rng, 5.0, 20.0)
        texture = _fractal(rng, rows / grain, columns / (grain * between(rng, 1.0, 3.0)), 4, 0.6)
        slope = between(rng, -0.5, 0.5) * (rows - ridge) / len(rows)
        land = between(rng, 0.0, 1.2) + between(rng, 0.1, 0.7) * texture + slope
        front = _ramp(rows - ridge, -0.7, 0.7)
        scene = scene * (1.0 - front) + land * front
        crest += between(rng, 0.1, 0.3)
    return scene


def _town(rng: RandomState, rows: Array, columns: Array) -> Array:
    """Blocks with rows of windows, and masts, under the sky."""
    scene = _sky(rng, rows, columns) * between(rng, 0.1, 0.5)
    dirt = 0.2 * _fractal(rng, rows / 12.0, columns / 12.0, 3, 0.7)
    warmth = between(rng, -0.6, 1.2)
    for _ in range(2 + columns.size // 40):
        left, top = between(rng, -20.0, columns.size), between(rng, 0.35, 1.0) * len(rows)
        right = left + between(rng, 10.0, 40.0)
        across, down = (columns - left) / between(rng, 5.0, 8.0), (rows - top) / 6.0
        windows = (across - np.floor(across) < 0.5) & (down - np.floor(down) < 0.6)
        wall = warmth + between(rng, 0.0, 0.6) + between(rng, -0.2, 0.2) * windows + dirt
        inside = (columns > left) & (columns < right) & (rows > top)
        scene = np.where(inside, wall, scene)
        mast = (np.abs(columns - left - 4.0) < 1.0) & (rows > top - between(rng, -30.0, 20.0))
        scene = np.where(mast, warmth + 0.3, scene)
    return scene


def _ground(rng: RandomState, rows: Array, columns: Array) -> Array:
    """Fields and vegetation from above, with a road."""
    along, across = _turn(rng, rows / 50.0, columns / 50.0)
    bend = between(rng, 0.1, 0.6)
    along = along + bend * _noise(rng, along, across)
    across = across + bend * _noise(rng, along, across)
    plots = _noise(rng, np.floor(along), np.floor(between(rng, 0.6, 1.6) * across))
    texture = _fractal(rng, rows / 12.0, columns / 12.0, 5, between(rng, 0.5, 0.8))
    middle = len(rows) / 100.0 + between(rng, -0.7, 0.7)
    road = 1.0 - _ramp(np.abs(along - middle), 0.03, between(rng, 0.06, 0.15))
    return between(rng, 0.2, 1.0) * plots + 0.6 * texture + between(rng, -0.8, 0.8) * road


# (background, least and largest contrast in grey levels)
_BACKGROUNDS: tuple[tuple[Callable[[RandomState, Array, Array], Array], float, float], ...] = (
    (_clouds, 30.0, 200.0),
    (_clouds, 30.0, 120.0),
    (_clear_sky, 10.0, 80.0),
    (_sea, 30.0, 180.0),
    (_hills, 40.0, 200.0),
    (_town, 40.0, 200.0),
    (_ground, 40.0, 180.0),
)


# The camera


def _expose(rng: RandomState, radiance: Array, least: float, largest: float) -> Array:
    """Radiance as grey levels; the darkest may fall below black."""
    contrast = between(rng, least, largest)
    darkest, brightest = radiance.min(), radiance.max()
    black = between(rng, -0.1 * contrast, 235.0 - contrast)
    return black + contrast * (radiance - darkest) / (brightest - darkest)


def _optics(rng: RandomState, image: Array, rows: Array, columns: Array) -> Array:
    """Slight blur, and corners darker (or, by stray light, brighter) than the middle."""
    for _ in range(2):
        image = _blur(image, between(rng, 0.05, 0.25))
    height, width = image.shape
    y, x = 2.0 * rows / height - 1.0, 2.0 * columns / width - 1.0
    return image * (1.0 - between(rng, -0.05, 0.15) * (y * y + x * x))


def _blur(image: Array, weight: float) -> Array:
    """Each pixel mixed with its neighbours, which weigh ``weight`` each along either axis."""
    for _ in range(2):
        padded = np.concatenate([image[:1], image, image[-1:]])
        image = ((1.0 - 2.0 * weight) * image + weight * (padded[:-2] + padded[2:])).T
    return image


def _sensor(rng: RandomState, image: Array) -> tuple[Array, float]:
    """Noise, and stripes along columns and rows. Also returns the noise's standard deviation."""
    height, width = image.shape
    deviation = 0.3 + 3.5 * rng.random_sample() * rng.random_sample()
    stripes = 0.4 * deviation * rng.random_sample()
    for size, *shape in ((deviation, height, width), (stripes, 1, width), (stripes, height, 1)):
        a, b, c, d = rng.random_sample((4, *shape))
        image = image + size * np.sqrt(3.0) * (a + b + c + d - 2.0)  # nearly normal
    return np.clip(image, 0.0, 255.0), deviation


# Targets


def _add_targets(rng: RandomState, image: Array, noise: float, ratios: list[float]) -> Scene:
    """The scene with one target for each signal-to-clutter ratio."""
    while True:
        clutter = np.maximum(local_deviation(image), max(noise, LEAST_CLUTTER))
        places = _find_places(rng, image, clutter, ratios)
        if len(places) == len(ratios):
            break
        # too bright for these targets; at the latest a nearly black scene has room for them
        image, noise = 0.8 * image, 0.8 * noise
    lit, mask, targets = image.copy(), np.zeros(image.shape, np.uint8), []
    for (row, column), ratio in zip(places, ratios, strict=True):
        blob = _blob(rng)
        top, left = row - _BLOB_REACH, column - _BLOB_REACH
        square = slice(top, row + _BLOB_REACH + 1), slice(left, column + _BLOB_REACH + 1)
        lit[square] += ratio * clutter[row, column] * blob
        mask[square][blob >= 0.5] = 255
        rows, columns = np.nonzero(blob >= 0.5)
        area = len(rows)
        centroid = top + int(rows.sum()) / area, left + int(columns.sum()) / area
        targets.append(Target(*centroid, area, ratio))
    image = np.floor(np.clip(lit, 0.0, 255.0) + 0.5).astype(np.uint8)
    return Scene(image, mask, tuple(targets))


def _find_places(
    rng: RandomState, image: Array, clutter: Array, ratios: list[float]
) -> list[tuple[int, int]]:
    """A pixel for each target, apart from the others and where its peak does not saturate.

    Fewer than there are ratios if one finds none.
    """
    free = np.zeros(image.shape, bool)
    free[_BLOB_REACH:-_BLOB_REACH, _BLOB_REACH:-_BLOB_REACH] = True
    places = []
    for ratio in ratios:
        rows, columns = np.nonzero(free & (image + ratio * clutter <= TOP_LEVEL))
        if not len(rows):
            break
        choice = int(rng.random_sample() * len(rows))
        row, column = int(rows[choice]), int(columns[choice])
        places.append((row, column))
        near_rows = slice(max(0, row - _SPACING + 1), row + _SPACING)
        near_columns = slice(max(0, column - _SPACING + 1), column + _SPACING)
        free[near_rows, near_columns] = False
    return places


def _blob(rng: RandomState) -> Array:
    """A square with a spot of light: 1 at its peak in the centre pixel, up to 9 pixels over half.

    The centre of the spot lies anywhere in that pixel; (1 - r**2) ** 3 is nearly a Gaussian.
    """
    offsets = np.arange(-_BLOB_REACH, _BLOB_REACH + 1, dtype=np.float64)
    while True:
        rows = offsets[:, None] - between(rng, -0.5, 0.5)
        columns = offsets[None, :] - between(rng, -0.5, 0.5)
        along, across = _turn(rng, rows, columns)
        radius = between(rng, 1.6, 3.4)  # px, where it ends; about 2.4 standard deviations
        along, across = along / (radius * between(rng, 1.0, 1.6)), across / radius
        height = np.maximum(1.0 - along * along - across * across, 0.0)
        blob = height * height * height
        blob = blob / blob[_BLOB_REACH, _BLOB_REACH]
        if blob.max() == 1.0 and np.count_nonzero(blob >= 0.5) <= _LARGEST_AREA:
            return blob


def local_deviation(image: Array) -> Array:
    """Standard deviation in the window around each pixel, as far as the image goes."""
    sixteenths = np.floor(16.0 * image + 0.5).astype(np.int64)  # integers, for an exact sum
    count, total = _window_sum(np.ones_like(sixteenths)), _window_sum(sixteenths)
    squares = _window_sum(sixteenths * sixteenths)
    return np.sqrt((count * squares - total * total).astype(np.float64)) / (16.0 * count)


def _window_sum(values: Array) -> Array:
    """Sum over the window around each pixel."""
    for _ in range(2):
        length = len(values)
        sums = np.concatenate([np.zeros_like(values[:1]), values.cumsum(axis=0)])
        first = np.maximum(np.arange(length) - _WINDOW_REACH, 0)
        end = np.minimum(np.arange(length) + _WINDOW_REACH + 1, length)
        values = (sums[end] - sums[first]).T
    return values
