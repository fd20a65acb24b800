"""One method's predictions, scored: figures by each protocol, and the files that hold them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ..files import new_csv, write_json
from .counts import Counts, figures
from .curves import (
    Curve,
    PixelSums,
    average_precision,
    froc,
    pd_at,
    precision_recall,
    roc,
    roc_auc,
    target_roc,
)
from .intervals import interval, samples
from .protocols import Protocol
from .scoring import Image, Job, Score, Target, image_iou, score

SCHEMA = 3  # of metrics.json; raised when a name in it changes its meaning
FILES = ("metrics.json", "per_image.csv", "per_target.csv", "curve.csv")  # what is written of it
FROC_LIMITS = {"pd_at_fa_1e-6": 1e-6, "pd_at_fa_1e-5": 1e-5}

_IMAGE_COUNTS = (
    "n_targets", "n_predictions", "n_hits", "n_false", "fa_px", "tp_px", "fp_px", "fn_px",
)  # fmt: skip


class Result(NamedTuple):
    """What one protocol says of a method."""

    protocol: Protocol
    counts: Counts
    figures: dict[str, float | None]  # those of `counts.figures`, and those of the curves
    intervals: dict[str, list[float] | None]  # 95 %, of the figures that come from counts
    curves: dict[str, Curve]
    samples: dict[str, np.ndarray]  # the figures with intervals, in each replicate


class Difference(NamedTuple):
    """One method's figure less another's."""

    difference: float | None
    interval: list[float] | None  # 95 %, of both on the same resampled images


class Evaluation(NamedTuple):
    """A method, scored."""

    name: str
    results: dict[str, Result]  # by the name of the protocol
    images: list[Image]
    warnings: list[str]


def _curves(sums: Score) -> dict[str, Curve]:
    """The curves that a protocol has."""
    if not isinstance(sums.roc, PixelSums):
        return {"roc": target_roc(sums.roc)}
    curves = {"roc": roc(sums.roc), "precision_recall": precision_recall(sums.roc)}
    return curves | ({"froc": froc(sums.froc)} if sums.froc.n_pixels else {})


def evaluate(name: str, job: Job, workers: int = 0) -> Evaluation:
    """Score a method.

    Args:
        name: of the method.
        job: what to score.
        workers: processes; 0: this one alone.

    Raises:
        InputError: a file that cannot be read, sizes that differ.
    """
    total: list[Score] | None = None
    images: list[Image] = []
    with tqdm(
        total=len(job.files), desc=name, unit="image", dynamic_ncols=True, leave=False, delay=2
    ) as bar:
        for chunk in score(job, workers):
            total = (
                [a + b for a, b in zip(total, chunk.scores, strict=True)] if total else chunk.scores
            )
            images += chunk.images
            bar.update(len(chunk.images))
    results = {p.name: _result(p, s) for p, s in zip(job.protocols, total, strict=True)}
    return Evaluation(name, results, images, _warnings(results, images))


def write_evaluation(folder: Path, evaluation: Evaluation, facts: dict[str, Any]) -> None:
    """Write ``metrics.json`` and tables of images, targets and curves.

    ``per_image.csv`` and ``per_target.csv`` hold the first of the protocols, ``curve.csv`` all.

    Args:
        folder: where the files go.
        evaluation: what they hold.
        facts: further entries of metrics.json.

    Raises:
        InputError: a file that cannot be written.
    """
    # first: it marks the others, so that what a crash leaves of them is removed later
    write_json(folder / "metrics.json", facts | as_json(evaluation))
    with new_csv(folder / "per_image.csv") as writer:
        writer.writerow(["image", "iou", *_IMAGE_COUNTS])
        for image in evaluation.images:
            numbers = (getattr(image.counts, column) for column in _IMAGE_COUNTS)
            writer.writerow([image.name, _cell(image_iou(image.counts)), *numbers])
    with new_csv(folder / "per_target.csv") as writer:
        writer.writerow(["image", *Target._fields])
        for image in evaluation.images:
            writer.writerows([image.name, *map(_cell, target)] for target in image.targets)
    _write_curves(folder / "curve.csv", evaluation)


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Figures as fractions, null where undefined; counts; 95 % intervals; the protocols' rules."""
    content: dict[str, Any] = {"schema": SCHEMA, "method": evaluation.name}
    for name, result in evaluation.results.items():
        counts = asdict(result.counts)
        content[name] = {
            **result.figures,
            **{key: value for key, value in counts.items() if not key.endswith("_sum")},
            "intervals": result.intervals,
            "protocol": asdict(result.protocol),
        }
    return content | {"warnings": evaluation.warnings}


def comparison_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """By protocol and method: the differences of its figures to those of the first method."""
    first, *others = evaluations
    return {"first": first.name} | {
        name: {
            other.name: {
                figure: difference._asdict()
                for figure, difference in differences(other.results[name], result).items()
            }
            for other in others
        }
        for name, result in first.results.items()
    }


def _result(protocol: Protocol, sums: Score) -> Result:
    curves = _curves(sums)
    found = figures(sums.counts, protocol)
    area = roc_auc(curves["roc"])
    found["roc_auc"] = protocol.undefined if area is None else area
    if "precision_recall" in curves:
        found["average_precision"] = average_precision(curves["precision_recall"])
    if "froc" in curves:
        found |= {name: pd_at(curves["froc"], fa) for name, fa in FROC_LIMITS.items()}
    replicates = samples(sums.replicates, protocol)
    bounds = {name: interval(values) for name, values in replicates.items()}
    return Result(protocol, sums.counts, found, bounds, curves, replicates)


def differences(result: Result, first: Result) -> dict[str, Difference]:
    """Each figure less that of ``first``; both are of the same images and the same seed."""
    found = {}
    for name, value in result.figures.items():
        other, bounds = first.figures[name], None
        if name in result.samples:
            bounds = interval(result.samples[name] - first.samples[name])
        known = value is not None and other is not None
        found[name] = Difference(value - other if known else None, bounds)
    return found


def _warnings(results: dict[str, Result], images: Sequence[Image]) -> list[str]:
    n, n_empty = len(images), sum(image.empty for image in images)
    doubts = Counter(image.doubt for image in images if image.doubt)
    found = [doubt for doubt, times in doubts.items() if times + n_empty == n]
    for name, result in results.items():
        if result.counts.n_undecided:
            found.append(
                f"{name}: dividing by the maximum is undefined for {result.counts.n_undecided} of "
                f"{n} images: an empty mask is read as no target, an all-zero map as no detection"
            )
        if not result.counts.n_targets:
            found.append(f"{name}: there is no target in any mask")
    return found


def _write_curves(path: Path, evaluation: Evaluation) -> None:
    with new_csv(path) as writer:
        writer.writerow(["protocol", "curve", "threshold", "x", "y", "iou"])
        for protocol, result in evaluation.results.items():
            for name, curve in result.curves.items():
                with_iou = name == "precision_recall"  # which thinning would take away
                for point in zip(*(curve if with_iou else thinned(curve)), strict=True):
                    iou = _iou(*point[1:]) if with_iou else None
                    writer.writerow([protocol, name, *map(_cell, (*point, iou))])


def _iou(recall: float, precision: float) -> float:
    """IoU of pixels at a threshold; NaN where recall is."""
    product = recall * precision
    return product / (recall + precision - product) if product else 0.0


def thinned(curve: Curve) -> Curve:
    """A curve without the points between two of the same y, which draw the same line."""
    y = curve.y
    if len(y) < 3:
        return curve
    inner = (y[1:-1] == y[:-2]) & (y[1:-1] == y[2:])
    keep = np.r_[True, ~inner, True]
    return Curve(curve.thresholds[keep], curve.x[keep], curve.y[keep])


def _cell(value: Any) -> Any:
    """Empty where undefined; floats to 6 digits."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float | np.floating) else value
