"""What is wrong with a data set, and what is in it."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from ..files import folded, list_folder, some_names
from ..options import InputError
from .catalogue import count_warning
from .dataset import Pair, PairDataset
from .images import SUFFIXES, read_levels, read_mask_levels, target_pixels
from .layouts import SPLITS
from .manifest import combined, file_sha256

MOST_NEAR = 10_000  # pairs of them that are looked for, across the splits and within them
NEAR = 36  # bits of 255: images whose perceptual hashes differ in no more are nearly the same
_HASHED = 64  # px, the side that is transformed
_HASH_SIDE = 16  # lowest frequencies along an axis
_SURROUNDINGS = 10  # px around a target: the clutter it is told from
_DARK = 1 / 16  # of the depth: images that reach no further are nearly black in training


class Image(NamedTuple):
    """A pair that could be read."""

    split: str
    pair: Pair
    size: tuple[int, int]  # height, width
    depth: int  # bits
    highest: float  # level, over the largest of the depth
    mask_values: str  # as `_mask_values` words them
    areas: list[int]  # of the targets, px
    scrs: list[float]  # of the targets: see `scr`
    covered: float  # part of the mask that is target
    pixel_hash: bytes  # hash of the image's levels
    perceptual_hash: np.ndarray  # (255,) bool
    sha256: tuple[str, str]  # of the two files

    @property
    def title(self) -> str:
        return f"{self.split}/{self.pair.name}"


class Finding(NamedTuple):
    text: str
    where: Sequence[str] = ()  # names that it is about

    def __str__(self) -> str:
        return f"{self.text}: {some_names(self.where)}" if self.where else self.text


@dataclass
class Report:
    """All that `check` found."""

    folder: Path
    images: list[Image]
    errors: list[Finding] = field(default_factory=list)  # the set is wrong
    warnings: list[Finding] = field(default_factory=list)  # it may be meant so

    def of(self, split: str) -> list[Image]:
        return [image for image in self.images if image.split == split]


def check(folder: Path) -> Report:
    """Read every file of a data set.

    Errors are what makes figures wrong or stops a run: images without masks and masks without
    images, files that are no images, pairs of two sizes, names that a disk merges, masks with
    values of which none is a target's, masks that cover most of an image, splits without any
    target, the same image in trainval and in test, no image at all. All else that is unusual is a
    warning.
    """
    report = Report(folder, [])
    for split in SPLITS:
        if not (folder / split).is_dir():
            report.warnings.append(Finding(f"no {split} split"))
            continue
        pairs = _survey(folder / split, report)
        if not pairs:
            report.warnings.append(Finding(f"{split}: no image with a mask"))
        with ThreadPoolExecutor() as pool:
            read = pool.map(lambda pair, split=split: _read(split, pair), pairs)
            for image in tqdm(read, split, len(pairs), leave=False, delay=2, dynamic_ncols=True):
                if isinstance(image, Image):
                    report.images.append(image)
                else:
                    report.errors.append(Finding(image))
        _judge_split(report, split)
    if not report.images and not report.errors:
        report.errors.append(Finding(f"{folder}: no image in any split"))
    _judge_repeats(report)
    counts = [len(report.of(split)) for split in SPLITS]
    warning = count_warning(folder.name, *counts)
    report.warnings += [Finding(warning)] if warning else []
    return report


def _survey(split: Path, report: Report) -> list[Pair]:
    """The pairs; what is no pair is an error of the report."""
    found: dict[str, dict[str, Path]] = {}
    for kind in ("images", "masks"):
        found[kind] = {}
        seen: dict[str, str] = {}
        if not (split / kind).is_dir():
            report.errors.append(Finding(f"{split / kind}: no such folder"))
            continue
        for path in list_folder(split / kind):
            if path.suffix.lower() not in SUFFIXES:
                continue
            other = seen.setdefault(folded(path.stem), path.name)
            if other != path.name:
                same = f"{path}: {other} has the same name but for suffix or case"
                report.errors.append(Finding(same))
            found[kind].setdefault(path.stem, path)
    images, masks = found["images"], found["masks"]
    for kind, missing in (("mask", images.keys() - masks), ("image", masks.keys() - images)):
        if missing:
            report.errors.append(Finding(f"{split / kind}s: no {kind} for", sorted(missing)))
    return [Pair(name, images[name], masks[name]) for name in sorted(images.keys() & masks.keys())]


def _read(split: str, pair: Pair) -> Image | str:
    """The image, or what is wrong with it."""
    try:
        levels, mask_levels = read_levels(pair.image), read_mask_levels(pair.mask)
        sha256 = file_sha256(pair.image), file_sha256(pair.mask)
    except InputError as error:
        return str(error)
    if levels.shape != mask_levels.shape:
        sizes = [f"{width}x{height}" for height, width in (mask_levels.shape, levels.shape)]
        return (
            f"{pair.mask}: {sizes[0]} px, but its image has {sizes[1]}; scale the mask to that, or "
            "leave the pair out"
        )
    mask = target_pixels(mask_levels)
    if mask_levels.any() and not mask.any():
        return (
            f"{pair.mask}: its largest value, {mask_levels.max()}, is not a target's; write "
            "targets as 255"
        )
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA].tolist()
    full = float(np.iinfo(levels.dtype).max)
    return Image(
        split,
        pair,
        levels.shape,
        8 * levels.itemsize,
        float(levels.max()) / full,
        _mask_values(mask_levels),
        areas,
        [scr(levels, labels, i + 1, stats[i + 1][:4]) for i in range(len(areas))],
        float(mask.mean()),
        hashlib.sha256(f"{levels.dtype} {levels.shape}".encode() + levels.tobytes()).digest(),
        perceptual_hash(levels),
        sha256,
    )


def _mask_values(levels: np.ndarray) -> str:
    values = np.unique(levels[levels > 0])
    return "grey" if len(values) > 1 else " and ".join(["0", *map(str, values)])


def scr(levels: np.ndarray, labels: np.ndarray, target: int, box: Sequence[int]) -> float:
    """Signal-to-clutter ratio of a target: |its mean - mean of its surroundings| / their deviation.

    Args:
        levels: (H, W) of the image.
        labels: (H, W) int: 0 outside targets.
        target: its label.
        box: left, top, width and height of it. The surroundings are all but targets that is within
            10 px of this; their deviation counts as one grey level of 256 at least.
    """
    left, top, width, height = (int(x) for x in box)
    rows = slice(max(0, top - _SURROUNDINGS), top + height + _SURROUNDINGS)
    columns = slice(max(0, left - _SURROUNDINGS), left + width + _SURROUNDINGS)
    window, of = levels[rows, columns].astype(np.float64), labels[rows, columns]
    around = window[of == 0]
    if not around.size:
        return 0.0
    least = (np.iinfo(levels.dtype).max + 1) / 256
    return float(abs(window[of == target].mean() - around.mean()) / max(around.std(), least))


def perceptual_hash(levels: np.ndarray) -> np.ndarray:
    """(H, W) -> (255,) bool, alike for images that look alike, at any size and brightness.

    Which of the 255 lowest frequencies of a cosine transform, at 64 x 64 px, exceed their median.
    """
    lowest = cv2.dct(_hashed(levels))[:_HASH_SIDE, :_HASH_SIDE].ravel()[1:]
    return lowest > np.median(lowest)


def near_any(samples: PairDataset, others: Sequence[tuple[PairDataset, int]]) -> np.ndarray:
    """(n,) bool: which images are nearly one of others, by `NEAR`, turned or mirrored, too.

    Args:
        samples: n pairs.
        others: a pair each, as data set and index.
    """

    def orientations(place: tuple[PairDataset, int]) -> list[np.ndarray]:
        small = _hashed(place[0].levels(place[1])[0])
        views = (np.rot90(view, turn) for view in (small, small[:, ::-1]) for turn in range(4))
        return [perceptual_hash(view) for view in views]

    if not others:
        return np.zeros(len(samples), bool)
    with ThreadPoolExecutor() as pool:
        own = pool.map(lambda i: perceptual_hash(samples.levels(i)[0]), range(len(samples)))
        theirs = pool.map(orientations, others)
        signs, their_signs = _signs(np.stack(list(own))), _signs(np.concatenate(list(theirs)))
    return (signs @ their_signs.T).max(axis=1) >= _agreement(signs.shape[1], NEAR)


def near_pairs(
    hashes: np.ndarray,
    distance: int,
    wanted: Callable[[int, int], np.ndarray] | None = None,
    most: int | None = None,
) -> list[tuple[int, int]]:
    """Indices i < j of hashes that differ in few bits.

    Args:
        hashes: (n, bits) bool.
        distance: in no more of them.
        wanted: which pairs, as (m, n) bool for i from a first to a last index and every j; None:
            all.
        most: ends the search; of a film of one scene there are as many as its images squared.
    """
    signs = _signs(hashes)
    least = _agreement(hashes.shape[1], distance)
    found = []
    for start in range(0, len(signs), 1024):
        agreement = signs[start : start + 1024] @ signs.T
        near = agreement >= least
        if wanted:
            near &= wanted(start, start + len(near))
        later = np.triu(near, start + 1)
        for i, j in zip(*np.nonzero(later), strict=True):
            if len(found) == most:
                return found
            found.append((start + int(i), int(j)))
    return found


def _hashed(levels: np.ndarray) -> np.ndarray:
    """The small image that a hash is made of."""
    return cv2.resize(levels.astype(np.float32), (_HASHED, _HASHED), interpolation=cv2.INTER_AREA)


def _signs(hashes: np.ndarray) -> np.ndarray:
    return np.where(hashes, np.float32(1), np.float32(-1))


def _agreement(bits: int, distance: int) -> float:
    """Least product of the signs of near hashes: the bits that agree less those that differ."""
    return bits - 2 * distance - 0.5


def _judge_split(report: Report, split: str) -> None:
    images = report.of(split)
    if images and not any(image.areas for image in images):
        report.errors.append(Finding(f"{split}: every mask is empty"))
    for findings, text, holds in (
        (report.errors, "masks that are mostly target; inverted?", lambda i: i.covered > 0.5),
        (report.warnings, "empty masks", lambda i: not i.areas),
        (
            report.warnings,
            "masks with grey between black and white, read as target above the middle",
            lambda i: i.mask_values == "grey",
        ),
        (report.warnings, "images nearly black for their depth", lambda i: i.highest < _DARK),
    ):
        if names := [image.pair.name for image in images if holds(image)]:
            findings.append(Finding(f"{split}: {len(names)} {text}", names))
    if len({image.depth for image in images}) > 1:
        report.warnings.append(Finding(f"{split}: images of 8 and of 16 bits"))


def _judge_repeats(report: Report) -> None:
    images = report.images
    same: dict[bytes, list[Image]] = defaultdict(list)
    for image in images:
        same[image.pixel_hash].append(image)
    groups = [group for group in same.values() if len(group) > 1]
    different = [group[0] for group in same.values()]
    near = {across: _near(different, across) for across in (True, False)}
    likeness = f"nearly the same image (hashes differ in {NEAR} of 255 bits at most)"
    for findings, text, found, across in (
        (report.errors, "the same image in trainval and test", groups, True),
        (report.warnings, "the same image several times", groups, False),
        (report.warnings, f"{likeness} in trainval and test", near[True], True),
        (report.warnings, f"{likeness} within a split", near[False], False),
    ):
        names = [
            " and ".join(image.title for image in group)
            for group in found
            if (len({image.split for image in group}) > 1) == across
        ]
        if names:
            least = "at least " if found is not groups and len(found) == MOST_NEAR else ""
            findings.append(Finding(f"{least}{len(names)} times {text}", names))


def _near(images: Sequence[Image], across: bool) -> list[list[Image]]:
    """Pairs that are nearly the same, across the splits or within them; `MOST_NEAR` at most."""
    if not images:
        return []
    of_test = np.array([image.split == "test" for image in images])
    pairs = near_pairs(
        np.stack([image.perceptual_hash for image in images]),
        NEAR,
        lambda first, last: (of_test[first:last, None] != of_test) == across,
        MOST_NEAR,
    )
    return [[images[i], images[j]] for i, j in pairs]


def table(report: Report) -> str:
    """What is in the set, for the terminal."""
    splits = [split for split in SPLITS if report.of(split)]
    rows = [[report.folder.name, *splits]]
    columns = [_described(report.of(split)) for split in splits]
    rows += [[key, *(column[key] for column in columns)] for key in (columns[0] if columns else [])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _described(images: Sequence[Image]) -> dict[str, str]:
    areas = [area for image in images for area in image.areas]
    scrs = [value for image in images for value in image.scrs]
    numbers = [len(image.areas) for image in images]
    heights, widths = zip(*(image.size for image in images), strict=True)
    several = f"{min(widths)}x{min(heights)} to {max(widths)}x{max(heights)}"
    one = f"{widths[0]}x{heights[0]}"
    return {
        "images": str(len(images)),
        "size, px": one if len({image.size for image in images}) == 1 else several,
        "depth, bits": " and ".join(map(str, sorted({image.depth for image in images}))),
        "mask values": _tally([image.mask_values for image in images]),
        "targets": str(len(areas)),
        "targets an image": _tally([str(n) if n < 4 else "4 or more" for n in numbers]),
        "area of a target, px": _spread(areas),
        "its signal-to-clutter ratio": _spread(scrs),
    }


def _tally(values: Sequence[str]) -> str:
    counts = {value: values.count(value) for value in sorted(set(values))}
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value}: {count}" for value, count in counts.items())


def _spread(values: Sequence[float]) -> str:
    """Median, and between which values nine of ten lie."""
    if not values:
        return "-"
    low, middle, high = np.percentile(values, (5, 50, 95))
    digits = 0 if isinstance(values[0], int) else 1
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def manifest(report: Report) -> dict[str, Any]:
    """The content of manifest.json: what was found, and SHA-256 of every file.

    ``data_sha256`` is that of a run's config.json.
    """
    known = {
        path: sha
        for image in report.images
        for path, sha in zip(image.pair[1:], image.sha256, strict=True)
    }
    files = {}
    for split in SPLITS:
        for kind in ("images", "masks"):
            folder = report.folder / split / kind
            for path in list_folder(folder) if folder.is_dir() else []:
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    files[f"{split}/{kind}/{path.name}"] = known.get(path) or file_sha256(path)
    return {
        "version": 1,
        "data_sha256": {
            split: combined((image.pair.name, *image.sha256) for image in report.of(split))
            for split in SPLITS
        },
        "errors": [finding._asdict() for finding in report.errors],
        "warnings": [finding._asdict() for finding in report.warnings],
        "files": files,
    }
