"""Counts of one image, their sums over images, and the figures that follow from the sums.

The corrected protocol: a target pixel is one with logit > 0; components are 8-connected; a
predicted component hits a true one when their centroids are less than 3 px apart.
"""

from dataclasses import dataclass, fields

import numpy as np

from .matching import components, match


@dataclass(frozen=True)
class Counts:
    """Sums over images. Counts of several images, shards or processes merge by addition."""

    n_images: int = 0
    n_pixels: int = 0
    tp_px: int = 0
    fp_px: int = 0
    fn_px: int = 0
    n_targets: int = 0  # true components
    n_predictions: int = 0  # predicted components
    n_hits: int = 0  # matched pairs of them
    fa_px: int = 0  # pixels of the predicted components without a match
    iou_sum: float = 0.0  # of the images' own IoU ...
    n_iou_images: int = 0  # ... over those with a target or a prediction

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )


def count(predicted: np.ndarray, true: np.ndarray) -> Counts:
    """Counts of one image; ``predicted`` and ``true`` are (H, W) bool.

    Raises:
        ValueError: their sizes differ.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"prediction {predicted.shape} and mask {true.shape} differ in size")
    tp = int(np.count_nonzero(predicted & true))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(true)) - tp
    true_parts, predicted_parts = components(true), components(predicted)
    pairs = match(true_parts, predicted_parts)
    either = tp + fp + fn
    return Counts(
        n_images=1,
        n_pixels=true.size,
        tp_px=tp,
        fp_px=fp,
        fn_px=fn,
        n_targets=len(true_parts.areas),
        n_predictions=len(predicted_parts.areas),
        n_hits=len(pairs),
        fa_px=int(predicted_parts.areas.sum() - sum(predicted_parts.areas[p] for _, p in pairs)),
        iou_sum=tp / either if either else 0.0,
        n_iou_images=int(either > 0),
    )


def figures(counts: Counts) -> dict[str, float | None]:
    """The figures, as fractions; None where one is undefined.

    iou, niou, precision, recall and f1 are of pixels, niou the mean over images; pd is the share of
    targets hit, fa the pixels of false components per pixel of all images.
    """
    c = counts
    return {
        "iou": _ratio(c.tp_px, c.tp_px + c.fp_px + c.fn_px),
        "niou": _ratio(c.iou_sum, c.n_iou_images),
        "precision": _ratio(c.tp_px, c.tp_px + c.fp_px),
        "recall": _ratio(c.tp_px, c.tp_px + c.fn_px),
        "f1": _ratio(2 * c.tp_px, 2 * c.tp_px + c.fp_px + c.fn_px),
        "pd": _ratio(c.n_hits, c.n_targets),
        "fa": _ratio(c.fa_px, c.n_pixels),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
