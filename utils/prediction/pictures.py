"""Drawings of results."""

import io
import threading

import cv2
import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit

from ..data.images import row_blocks
from ..data.ranges import normalised
from .predictor import Predictor, Result

_COLOUR = (60, 220, 80)  # blue, green, red
_MARGIN = 3  # px between a target and its frame
_LEGIBLE = 512  # px; smaller images are enlarged by a whole factor
_WINDOW = 512  # px; of larger images, the stages are shown around the likeliest target
_POINTS = 96  # a surface has no more points along an axis
_drawing = threading.Lock()  # matplotlib's fonts are not for several threads


def overlay(result: Result) -> np.ndarray:
    """The image with a box around each detection, and its peak probability.

    Returns:
        (H', W', 3) uint8, blue first; H' and W' are H and W times a whole number, so that images
        of less than 512 px are large enough to read.
    """
    height, width = result.levels.shape
    picture = np.empty((height, width, 3), np.uint8)
    for rows in row_blocks(result.levels):
        grey = np.rint(255 * normalised(result.levels[rows], result.limits))
        picture[rows] = grey.astype(np.uint8)[..., None]
    scale = -(-_LEGIBLE // max(height, width))
    if scale > 1:
        size = width * scale, height * scale
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)
    for detection in reversed(result.detections):  # the likeliest on top
        left, top = (scale * (at - _MARGIN) for at in (detection.left, detection.top))
        right = scale * (detection.left + detection.width + _MARGIN) - 1
        bottom = scale * (detection.top + detection.height + _MARGIN) - 1
        cv2.rectangle(picture, (left, top), (right, bottom), _COLOUR, 1, cv2.LINE_8)
        _label(picture, f"{detection.peak:.2f}", left, top, bottom)
    return picture


def _label(picture: np.ndarray, text: str, left: int, top: int, bottom: int) -> None:
    """Above a box, or below where there is no room; within the picture."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (width, height), _ = cv2.getTextSize(text, font, size, 1)
    below = min(bottom + 4 + height, picture.shape[0] - 3)
    y = top - 3 if top - 3 - height >= 0 else below
    x = max(0, min(left, picture.shape[1] - width))
    cv2.putText(picture, text, (x, y), font, size, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, text, (x, y), font, size, _COLOUR, 1, cv2.LINE_AA)


def stage_figure(predictor: Predictor, result: Result) -> bytes:
    """B'_k, the probability of T_k, and D_k for every stage k: a PNG file.

    Of images larger than 512 px that are predicted in their own size, the window around the highest
    probability; those that are predicted in tiles are seen by the network in this window only.
    """
    levels = result.levels
    window = np.s_[:, :] if predictor.size else _window(result)
    if predictor.in_tiles(levels):
        levels, window = levels[window], np.s_[:, :]
    stages = predictor.stages(levels, result.limits)
    rows = ("background B'", "target T", "reconstruction D")
    image = normalised(levels[window], result.limits)
    with _drawing:
        tall = min(4.0, max(0.5, image.shape[0] / image.shape[1]))
        size = 2.4 * (len(stages) + 1), 3 * (2.4 * tall + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(3, len(stages) + 1, squeeze=False)
        _show(axes[0][0], image, "image")
        for blank in axes[1:, 0]:
            blank.set_axis_off()
        for k, stage in enumerate(stages):
            maps = stage.background, expit(stage.target), stage.reconstruction
            for row, m, name in zip(axes[:, k + 1], maps, rows, strict=True):
                limits = (0, 1) if m is maps[1] else None
                _show(row, m[window], f"{name}, stage {k + 1}", limits)
        return _png(figure)


def surface_figure(result: Result) -> bytes:
    """The image, the background and the target as surfaces, as in the paper: a PNG file.

    Each point is the largest value of a block of pixels, so that small targets stay.
    """
    step = -(-max(result.levels.shape) // _POINTS)
    surfaces = {
        "image": normalised(_reduced(result.levels, step), result.limits),
        "background": _reduced(result.background, step),
        "target": expit(_reduced(result.logits, step)),
    }
    with _drawing:
        figure = Figure(figsize=(12, 4), layout="constrained")
        for k, (name, points) in enumerate(surfaces.items()):
            rows, columns = (
                np.minimum(np.arange(n) * step, side)  # of one pixel, its two edges
                for n, side in zip(points.shape, result.levels.shape, strict=True)
            )
            axes = figure.add_subplot(1, 3, k + 1, projection="3d")
            axes.plot_surface(
                columns,
                rows[:, None],
                points,
                rcount=_POINTS,
                ccount=_POINTS,
                cmap="viridis",
                vmin=0 if name == "target" else None,
                vmax=1 if name == "target" else None,
            )
            axes.set_zlim(min(0.0, float(points.min())), max(1.0, float(points.max())))
            axes.invert_yaxis()
            axes.set(xlabel="column, px", ylabel="row, px")
            axes.set_title(name, y=0.95)
        return _png(figure)


def _window(result: Result) -> tuple[slice, slice]:
    peak = np.unravel_index(result.logits.argmax(), result.logits.shape)
    spans = []
    for at, length in zip(peak, result.logits.shape, strict=True):
        start = min(max(0, int(at) - _WINDOW // 2), max(0, length - _WINDOW))
        spans.append(slice(start, start + _WINDOW))
    return spans[0], spans[1]


def _reduced(m: np.ndarray, step: int) -> np.ndarray:
    """The largest value of each block of step x step pixels."""
    rows = np.maximum.reduceat(m, range(0, m.shape[0], step), axis=0)
    points = np.maximum.reduceat(rows, range(0, m.shape[1], step), axis=1)
    return points if min(points.shape) > 1 else np.pad(points, ((0, 1), (0, 1)), "edge")


def _show(axes, m: np.ndarray, title: str, limits: tuple[float, float] | None = None) -> None:
    low, high = limits or (float(m.min()), float(m.max()))
    axes.imshow(m, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(title, fontsize="small")
    axes.set_axis_off()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
