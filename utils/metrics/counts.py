"""Counts of one image, their sums over images, and the figures that follow from the sums."""

from dataclasses import dataclass, fields
from typing import NamedTuple, TypeVar

import numpy as np

from .maps import Map
from .matching import Components, Match, components, hit_by, intersections, match
from .protocols import CORRECTED, Protocol

AREA_BINS = {"1_4": (1, 4), "5_9": (5, 9), "10_25": (10, 25), "over_25": (26, np.inf)}  # px
RATIO_UNIT = 10**12  # ratios are summed as integers of this fraction: no order changes the sum

S = TypeVar("S", bound="Sums")


@dataclass(frozen=True)
class Sums:
    """Sums over images; those of several images, shards or processes merge by addition."""

    def __add__(self: S, other: S) -> S:
        values = (getattr(self, f.name) + getattr(other, f.name) for f in fields(self))
        return type(self)(*values)


@dataclass(frozen=True)
class Counts(Sums):
    """Integers of one image, or of many."""

    n_images: int = 0
    n_left_out: int = 0  # of them without a target, by the protocol no part of Pd and Fa
    n_undecided: int = 0  # images of a mask or a map of zeros, where it divides by the maximum
    n_pixels: int = 0
    background_px: int = 0
    tp_px: int = 0
    fp_px: int = 0
    fn_px: int = 0
    n_targets: int = 0  # true components
    n_predictions: int = 0  # predicted components
    n_hits: int = 0  # true components that are hit
    n_false: int = 0  # predicted components that hit none
    fa_px: int = 0  # false pixels, by the protocol's rule
    fa_of_px: int = 0  # what they are divided by
    iou_sum: int = 0  # of the images' own IoU, in 1 / RATIO_UNIT ...
    n_iou_images: int = 0  # ... over so many of them
    seg_iou_sum: int = 0  # of the IoU of each hit with its target, in 1 / RATIO_UNIT
    n_targets_1_4: int = 0  # true components of this area in px ...
    n_targets_5_9: int = 0
    n_targets_10_25: int = 0
    n_targets_over_25: int = 0
    n_hits_1_4: int = 0  # ... and how many of them are hit
    n_hits_5_9: int = 0
    n_hits_10_25: int = 0
    n_hits_over_25: int = 0


class Comparison(NamedTuple):
    """One image: its counts, and what they come from."""

    counts: Counts
    true: Components
    predicted: Components  # by the detection rule
    pairs: list[Match]
    hit: np.ndarray  # (n_predicted,) bool: the predicted components that are no false alarm


def compare(prediction: Map, true: np.ndarray, protocol: Protocol = CORRECTED) -> Comparison:
    """Compare a prediction with the true mask.

    Args:
        prediction: of (H, W).
        true: (H, W) bool, by the protocol's mask rule.
        protocol: the rules.

    Raises:
        ValueError: another shape or type of mask, a map of integers or with NaN.
    """
    if true.ndim != 2 or true.dtype != bool:
        raise ValueError(f"mask {true.shape} {true.dtype}: expected (H, W) bool, such as mask > 0")
    if prediction.values.dtype.kind != "f":
        raise ValueError(f"prediction {prediction.values.dtype}: expected floats")
    if np.isnan(prediction.values).any():
        raise ValueError("prediction: a value is NaN")
    if prediction.values.shape != true.shape:
        raise ValueError(
            f"prediction {prediction.values.shape} and mask {true.shape} differ in size"
        )
    rules = {protocol.pixel_rule, protocol.detection_rule}
    masks, undecided = {}, protocol.mask_rule == "maximum" and not true.any()
    if "probability" in rules:
        masks["probability"] = prediction.positive()
    if "relative" in rules:
        relative = prediction.relative
        masks["relative"] = relative > 0.5
        undecided = undecided or not relative.any()
    pixels, detected = masks[protocol.pixel_rule], masks[protocol.detection_rule]
    left_out = protocol.empty_rule == "leave out" and not true.any()
    if left_out:
        detected = np.zeros_like(true)

    true_parts, predicted_parts = components(true), components(detected)
    pairs = match(true_parts, predicted_parts, protocol)
    hit = hit_by(pairs, true_parts, predicted_parts, protocol)

    true_px = int(np.count_nonzero(true))
    tp = int(np.count_nonzero(pixels & true))
    fp = int(np.count_nonzero(pixels)) - tp
    union = true_px + fp
    fa_px = _false_pixels(true, detected, predicted_parts.areas, hit, protocol)
    background = true.size - true_px
    denominators = {"image": true.size, "background": background}
    fa_of_px = denominators.get(protocol.denominator, protocol.denominator)
    by_area = {}
    hits = [t for t, _ in pairs]
    for name, (low, high) in AREA_BINS.items():
        inside = (true_parts.areas >= low) & (true_parts.areas <= high)
        by_area[f"n_targets_{name}"] = int(np.count_nonzero(inside))
        by_area[f"n_hits_{name}"] = int(np.count_nonzero(inside[hits]))
    counts = Counts(
        n_images=1,
        n_left_out=int(left_out),
        n_undecided=int(undecided),
        n_pixels=true.size,
        background_px=background,
        tp_px=tp,
        fp_px=fp,
        fn_px=true_px - tp,
        n_targets=len(true_parts.areas),
        n_predictions=len(predicted_parts.areas),
        n_hits=len(pairs),
        n_false=int(np.count_nonzero(~hit)),
        fa_px=fa_px,
        fa_of_px=0 if left_out else fa_of_px,
        iou_sum=_units(tp, union),
        n_iou_images=int(union > 0 or protocol.empty_rule == "zero"),
        seg_iou_sum=sum(_pair_ious(true_parts, predicted_parts, pairs)),
        **by_area,
    )
    return Comparison(counts, true_parts, predicted_parts, pairs, hit)


def count(prediction: Map, true: np.ndarray, protocol: Protocol = CORRECTED) -> Counts:
    """`compare`, the counts alone."""
    return compare(prediction, true, protocol).counts


def figures(counts: Counts, protocol: Protocol = CORRECTED) -> dict[str, float | None]:
    """The figures, as fractions; None (or the protocol's value) where one is 0/0.

    Of pixels: iou; niou, its mean over images; precision, recall, f1; pixel_fpr, of the background.
    Of components: pd, the share of targets hit, and by area in px; target_precision, the share of
    predicted components that hit; target_f1 of these two; fa_per_image, false components.
    Of both: fa, false pixels per pixel; seg_iou, the mean IoU of a hit and its target; loc_iou,
    hits / (hits + false + missed); hiou, their product (Huang et al., PyIRSTDMetrics).
    """
    c = counts

    def ratio(part: float, whole: float) -> float | None:
        return part / whole if whole else protocol.undefined

    seg_iou = ratio(c.seg_iou_sum / RATIO_UNIT, c.n_hits)
    loc_iou = ratio(c.n_hits, c.n_targets + c.n_false)
    n_true_predictions = c.n_predictions - c.n_false
    pd = ratio(c.n_hits, c.n_targets)
    target_precision = ratio(n_true_predictions, c.n_predictions)
    return {
        "iou": ratio(c.tp_px, c.tp_px + c.fp_px + c.fn_px),
        "niou": ratio(c.iou_sum / RATIO_UNIT, c.n_iou_images),
        "precision": ratio(c.tp_px, c.tp_px + c.fp_px),
        "recall": ratio(c.tp_px, c.tp_px + c.fn_px),
        "f1": ratio(2 * c.tp_px, 2 * c.tp_px + c.fp_px + c.fn_px),
        "pd": pd,
        "fa": ratio(c.fa_px, c.fa_of_px),
        "pixel_fpr": ratio(c.fp_px, c.background_px),
        "fa_per_image": ratio(c.n_false, c.n_images - c.n_left_out),
        "target_precision": target_precision,
        "target_f1": _harmonic_mean(pd, target_precision)
        if c.n_targets and c.n_predictions
        else ratio(0, c.n_targets + c.n_predictions),
        "seg_iou": seg_iou,
        "loc_iou": loc_iou,
        "hiou": seg_iou * loc_iou if c.n_hits else ratio(0, c.n_targets + c.n_false),
        **{
            f"pd_{name}": ratio(getattr(c, f"n_hits_{name}"), getattr(c, f"n_targets_{name}"))
            for name in AREA_BINS
        },
    }


def _false_pixels(
    true: np.ndarray,
    detected: np.ndarray,
    areas: np.ndarray,
    hit: np.ndarray,
    protocol: Protocol,
) -> int:
    if protocol.false_area == "pixels":
        return int(np.count_nonzero(detected & ~true))
    if protocol.false_area == "area value":
        return int(areas[~np.isin(areas, areas[hit])].sum())
    return int(areas[~hit].sum())


def _pair_ious(true: Components, predicted: Components, pairs: list[Match]) -> list[int]:
    """IoU of each pair, in 1 / RATIO_UNIT."""
    if not pairs:
        return []
    shared = intersections(true, predicted)
    return [
        _units(int(shared[t, p]), int(true.areas[t] + predicted.areas[p] - shared[t, p]))
        for t, p in pairs
    ]


def _units(part: int, whole: int) -> int:
    return part * RATIO_UNIT // whole if whole else 0


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0
