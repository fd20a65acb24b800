"""Folders of predictions and masks to sums."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..data.images import read_mask_levels, resize
from ..data.lists import read_list
from ..options import InputError
from . import maps
from .counts import RATIO_UNIT, Comparison, Counts, Sums, compare
from .curves import FrocSums, PixelSums, TargetSums, froc_sums, pixel_sums, target_sums
from .intervals import empty, resampled
from .maps import Kind, Map, read_map
from .matching import intersections
from .protocols import Protocol

CHUNK = 16  # images that are scored before their sums are passed on


@dataclass(frozen=True)
class Score(Sums):
    """The sums of one protocol."""

    counts: Counts
    roc: PixelSums | TargetSums
    froc: FrocSums  # of the corrected protocol; else empty
    replicates: np.ndarray = field(default_factory=empty)


class Target(NamedTuple):
    """A true component, or a false one."""

    outcome: str  # hit, missed, false alarm
    column: float  # of the centroid, px from the left
    row: float
    area_px: int
    distance_px: float | None  # of the centroids of a hit
    iou: float | None  # of the components of a hit
    peak_logit: float  # the highest in the component


class Image(NamedTuple):
    """What is known of one image by the first of the protocols."""

    name: str
    counts: Counts
    targets: list[Target]
    doubt: str | None  # see `maps.doubt`
    empty: bool  # see `maps.is_empty`


class Chunk(NamedTuple):
    scores: list[Score]  # in the order of the protocols
    images: list[Image]


class Job(NamedTuple):
    """What to score, and how."""

    files: Sequence[tuple[str, Path, Path]]  # name, prediction, mask
    protocols: Sequence[Protocol]
    kind: Kind | None = None
    resize: bool = False  # predictions may differ from their masks in size, see `MapAndMask.sized`
    seed: int = 0


def pair_files(
    predictions: Path, masks: Path, chosen: Path | None = None
) -> list[tuple[str, Path, Path]]:
    """Predictions and masks of the same images: (name, prediction, mask), sorted by name.

    Args:
        predictions: folder of maps.
        masks: folder of masks.
        chosen: a list of the names of images; None: all of both folders.

    Raises:
        InputError: an empty folder, a mask without a prediction or the reverse, a bad list.
    """
    mask_files = maps.list_masks(masks)
    prediction_files = maps.list_predictions(predictions)
    if chosen:
        names = sorted(read_list(chosen, mask_files, "mask"))
        mask_files = {name: mask_files[name] for name in names}
        prediction_files = {n: path for n, path in prediction_files.items() if n in mask_files}
    missing, extra = mask_files.keys() - prediction_files, prediction_files.keys() - mask_files
    if missing or extra:
        such = "; ".join(
            f"{kind} {min(names)}" for kind, names in (("mask", missing), ("map", extra)) if names
        )
        raise InputError(
            f"{predictions}: made for other images than {masks}: {len(missing)} of "
            f"{len(mask_files)} masks have no map and {len(extra)} maps no mask ({such}); predict "
            "these very images under their names, name other --masks, or choose images with --list"
        )
    return [(name, prediction_files[name], path) for name, path in mask_files.items()]


def score(job: Job, workers: int = 0) -> Iterator[Chunk]:
    """Score the files in order, a chunk at a time.

    Args:
        job: what to score.
        workers: processes; 0: this one alone.

    Raises:
        InputError: a file that cannot be read, sizes that differ, too many processes.
    """
    chunks = [job._replace(files=job.files[i : i + CHUNK]) for i in range(0, len(job.files), CHUNK)]
    if not workers:
        yield from map(_score_chunk, chunks)
        return
    # spawned: a forked child of a process with threads can hang
    context = multiprocessing.get_context("spawn")
    most = 61 if os.name == "nt" else workers  # Windows waits for no more
    try:
        with ProcessPoolExecutor(
            min(workers, most, len(chunks)), context, initializer=cv2.setNumThreads, initargs=(1,)
        ) as pool:
            yield from pool.map(_score_chunk, chunks)
    except (OSError, BrokenProcessPool) as error:
        raise InputError(
            f"--workers {workers}: a process did not start, or was ended ({error}); use fewer"
        ) from error


class MapAndMask(NamedTuple):
    """A map and the levels of its mask, as they are stored."""

    file: Path  # of the map
    prediction: Map
    levels: np.ndarray

    @classmethod
    def read(cls, prediction: Path, mask: Path, kind: Kind | None) -> "MapAndMask":
        """Raises InputError for a file that cannot be read."""
        return cls(prediction, read_map(prediction, kind), read_mask_levels(mask))

    def sized(self, protocol: Protocol, resized: bool) -> tuple[Map, np.ndarray]:
        """What a protocol compares: a map (bilinear) and a mask (nearest, bool) of one size.

        Each is sampled once at most: to the protocol's size, or where it has none, the map to that
        of the mask.

        Raises:
            InputError: the map has neither the mask's size nor the protocol's, and ``resized`` is
                false.
        """
        prediction, true = self.prediction, protocol.mask(self.levels)
        shapes = [true.shape]
        if protocol.size:
            true = resize(true, protocol.size, nearest=protocol.sampling)
            shapes.append(true.shape)
        if prediction.values.shape not in shapes and not resized:
            raise InputError(
                f"{self.file}: {_size(prediction.values)}, but its mask has {_size(self.levels)}; "
                "--resize brings predictions to the masks' size, --size both to one size"
            )
        return replace(prediction, values=resize(prediction.values, true.shape)), true


def _score_chunk(job: Job) -> Chunk:
    total: list[Score] | None = None
    images = []
    for name, prediction_file, mask_file in job.files:
        try:
            scores, image = _score_image(name, prediction_file, mask_file, job)
        except MemoryError as error:
            raise InputError(
                f"{prediction_file}: scoring it does not fit into memory; it is too large, or it "
                "and its mask have too many components"
            ) from error
        images.append(image)
        total = [a + b for a, b in zip(total, scores, strict=True)] if total else scores
    return Chunk(total or [], images)


def _score_image(
    name: str, prediction_file: Path, mask_file: Path, job: Job
) -> tuple[list[Score], Image]:
    """By each protocol, and what is known of it by the first."""
    pair = MapAndMask.read(prediction_file, mask_file, job.kind)
    scores, image = [], None
    for protocol in job.protocols:
        sized, true = pair.sized(protocol, job.resize)
        comparison = compare(sized, true, protocol)
        scores.append(_score(name, sized, true, comparison, protocol, job.seed))
        if image is None:
            targets = _targets(sized, comparison)
            doubt, empty = maps.doubt(pair.prediction), maps.is_empty(pair.prediction)
            image = Image(name, comparison.counts, targets, doubt, empty)
    return scores, image


def _score(
    name: str,
    prediction: Map,
    true: np.ndarray,
    comparison: Comparison,
    protocol: Protocol,
    seed: int,
) -> Score:
    roc = (
        pixel_sums(prediction, true)
        if protocol.roc_rule == "pixels"
        else target_sums(prediction, comparison.true)
    )
    corrected = protocol.name == "corrected"
    froc = froc_sums(prediction, comparison.true) if corrected else FrocSums()
    counts = comparison.counts
    return Score(counts, roc, froc, resampled(name, counts, seed))


def _targets(prediction: Map, comparison: Comparison) -> list[Target]:
    _, true, predicted, pairs, hit = comparison
    if not len(true.areas) and not len(predicted.areas):
        return []
    partner, shared = dict(pairs), intersections(true, predicted)
    logits = prediction.logits()
    peaks = [_peaks(logits, parts.labels, len(parts.areas)) for parts in (true, predicted)]
    found = []
    for t, (centroid, area) in enumerate(zip(true.centroids, true.areas, strict=True)):
        distance = iou = None
        if t in partner:
            p = partner[t]
            distance = float(np.hypot(*(centroid - predicted.centroids[p])))
            iou = float(shared[t, p] / (area + predicted.areas[p] - shared[t, p]))
        outcome = "hit" if t in partner else "missed"
        found.append(Target(outcome, *map(float, centroid), int(area), distance, iou, peaks[0][t]))
    for p in np.flatnonzero(~hit):
        place = map(float, predicted.centroids[p])
        area = int(predicted.areas[p])
        found.append(Target("false alarm", *place, area, None, None, peaks[1][p]))
    return found


def _peaks(logits: np.ndarray, labels: np.ndarray, n: int) -> list[float]:
    peaks = np.full(n, -np.inf, np.float32)
    inside = np.flatnonzero(labels)
    np.maximum.at(peaks, labels.ravel()[inside] - 1, logits.ravel()[inside])
    return peaks.tolist()


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]} px"


def image_iou(counts: Counts) -> float | None:
    """The IoU of a single image; None where it has no part in nIoU."""
    return counts.iou_sum / RATIO_UNIT if counts.n_iou_images else None
