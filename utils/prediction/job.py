"""Many files: order, failures, outputs."""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ..data.dataset import list_images
from ..data.images import encode_png, photo_size, read_image, read_photo, resize
from ..files import make_folder, write_bytes
from ..group import Group
from ..options import InputError
from ..results import (
    map_path,
    read_record,
    remove_scores,
    write_logits,
    write_probability,
    write_record,
)
from .detections import Detection
from .journal import Entry, Journal
from .pictures import overlay, stage_figure, surface_figure
from .predictor import Predictor, Result
from .sources import Source
from .videos import Frame, new_video, open_video

KINDS = ("img", "mat", "mask", "overlay", "boxes", "stages", "surface")
_AHEAD = 2  # batches that are read while another is predicted
_IN_MEMORY = 2**25  # pixels of all images on their way, unless a single one has more
_BATCH_ON_GPU = 2**21  # pixels
_BATCH_ON_CPU = 2**18

Read = Callable[[Path], np.ndarray]


@dataclass(frozen=True)
class Job:
    """What is to be written, and how to go about it.

    Args:
        folder: of the outputs, one folder for each kind in it.
        kinds: of `KINDS`.
        frames: whether these are written of the frames of videos too.
        skip_existing: go on with an interrupted job.
        strict: stop at the first file that cannot be read.
        read: an image file to (H, W) uint8, uint16 or float32.
    """

    folder: Path
    kinds: tuple[str, ...] = ("img", "mat")
    frames: bool = False
    skip_existing: bool = False
    strict: bool = False
    read: Read = read_photo


class Outcome(NamedTuple):
    """Of all processes, in the leading one; of the others empty."""

    predicted: int  # files, with those that an earlier job had predicted
    failed: int


def predict_files(
    predictor: Predictor, sources: Sequence[Source], job: Job, group: Group | None = None
) -> Outcome:
    """Predict images and videos. The processes of a group share them.

    A file that cannot be read, or does not fit into memory, is named on stderr, written down in the
    journal and passed over.

    Raises:
        InputError: outputs that cannot be written, weights that predict no finite numbers, an
            earlier job of other settings; with ``strict`` also a file that cannot be read.
    """
    group = group or Group.alone()
    make_folder(job.folder)
    settings = {
        "weights_sha256": predictor.network.sha256,
        "level range": predictor.level_range,
        "image size": predictor.size,
        "threshold": predictor.threshold,
        "min area": predictor.min_area,
        "outputs": sorted(job.kinds),
    }
    journal = Journal(job.folder, settings, group, keep=job.skip_existing)
    own = list(sources[group.rank :: group.world])
    todo = [source for source in own if not _is_done(source, job, journal.earlier.get(source.name))]
    images = [source for source in todo if not source.is_video]
    with tqdm(
        total=len(own),
        initial=len(own) - len(todo),
        unit="image",
        dynamic_ncols=True,
        disable=not group.leads,
    ) as bar:
        for entry in _predict_images(predictor, images, job, bar):
            journal.add(entry)
        for source in todo:
            if source.is_video:
                journal.add(_predict_video(predictor, source, job))
                bar.update()
    has_videos = any(source.is_video for source in sources)
    names = {source.name for source in sources}
    entries = journal.finish(names, tables="boxes" in job.kinds or has_videos)
    failed = sum("error" in entry for entry in entries)
    return Outcome(len(entries) - failed, failed)


def predict_split(predictor: Predictor, split: Path, size: int, job: Job, group: Group) -> Outcome:
    """Predict every image of ``<split>/images`` for scoring; masks are not looked at.

    The maps get a record of what they are made from; those that an earlier job left for other
    images are removed. One image that cannot be read stops the job before it has written anything.

    Args:
        size: resize images to size x size first, and write maps of this size; 0: of their own.

    Raises:
        InputError: an image that cannot be read, a folder that cannot be written or holds maps of
            unknown origin, weights that predict no finite numbers.
    """
    images = list_images(split / "images")
    with ThreadPoolExecutor() as pool:
        deque(pool.map(read_image, images.values()), maxlen=0)
    folder = job.folder
    earlier = set(read_record(folder).get("images", ()))
    foreign = {path.stem for path in (folder / "mat").glob("*.mat")} - earlier - images.keys()
    if foreign:
        raise InputError(
            f"{folder / 'mat'}: holds {len(foreign)} maps of unknown origin (such as "
            f"{min(foreign)}.mat); remove them, or choose another folder with --results"
        )
    record = {
        "complete": False,
        "dataset": split.parent.name,
        "data_root": str(split.parent.parent.resolve()),
        "split": split.name,
        "size": size or None,
        "weights_sha256": predictor.network.sha256,
        "images": sorted(earlier | images.keys()),
    }
    group.wait()
    if group.leads:
        write_record(folder, record)
        remove_scores(folder)
    sources = [Source(stem, path) for stem, path in images.items()]
    outcome = predict_files(predictor, sources, job, group)
    if group.leads:
        for stem in earlier - images.keys():
            for kind in KINDS:
                map_path(folder, kind, stem).unlink(missing_ok=True)
        write_record(folder, record | {"complete": True, "images": sorted(images)})
    return outcome


def scoring_reader(size: int) -> Read:
    """`Job.read` for `predict_split`: grey levels in [0, 1], as in training."""

    def read(path: Path) -> np.ndarray:
        image = read_image(path)
        return resize(image, size) if size else image

    return read


def _is_done(source: Source, job: Job, entry: Entry | None) -> bool:
    """Whether an earlier job wrote everything about a file."""
    if entry is None or "error" in entry:
        return False
    if source.is_video:
        return _annotated(job, source).exists()
    return all(map_path(job.folder, kind, source.name).exists() for kind in _files_of(job))


def _files_of(job: Job) -> list[str]:
    """The kinds of which each image has a file."""
    return [kind for kind in job.kinds if kind != "boxes"]


def _annotated(job: Job, source: Source) -> Path:
    return job.folder / "video" / f"{source.name}.mp4"


def _predict_images(
    predictor: Predictor, sources: Sequence[Source], job: Job, bar: tqdm
) -> Iterator[Entry]:
    """Read ahead, predict, and write behind, within a number of pixels."""
    pool = ThreadPoolExecutor()
    todo = deque(_batches(sources, _batch_pixels(predictor), pool))
    reading: deque[tuple[int, list[tuple[Source, Future]]]] = deque()
    writing: deque[tuple[int, list[Future]]] = deque()
    held = 0
    try:
        while todo or reading or writing:
            while todo and len(reading) < _AHEAD and (not held or held + todo[0][0] <= _IN_MEMORY):
                pixels, batch = todo.popleft()
                held += pixels
                reading.append((pixels, [(s, pool.submit(job.read, s.path)) for s in batch]))
            if reading:
                pixels, futures = reading.popleft()
                writing.append((pixels, _predict_batch(predictor, futures, job, pool)))
                del futures  # and with them the images
            if len(writing) > _AHEAD or not reading:
                pixels, written = writing.popleft()
                for future in written:
                    entry = future.result()
                    if "error" in entry:
                        bar.write(f"skipped: {entry['error']}", file=sys.stderr)
                    bar.update()
                    yield entry
                held -= pixels
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(
    sources: Sequence[Source], most_pixels: int, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, list[Source]]]:
    """Images of one size by their headers, small ones several at a time, with their pixels."""
    sizes = pool.map(photo_size, (source.path for source in sources))
    ordered = sorted(zip(sizes, sources, strict=True))
    for (height, width), items in groupby(ordered, key=lambda item: item[0]):
        same = [source for _, source in items]
        pixels = height * width
        count = max(1, most_pixels // max(1, pixels)) if pixels else 1
        for start in range(0, len(same), count):
            batch = same[start : start + count]
            yield pixels * len(batch), batch


def _batch_pixels(predictor: Predictor) -> int:
    return _BATCH_ON_CPU if predictor.device.type == "cpu" else _BATCH_ON_GPU


def _predict_batch(
    predictor: Predictor,
    reading: list[tuple[Source, Future]],
    job: Job,
    pool: ThreadPoolExecutor,
) -> list[Future]:
    """Predict what was read; returns the entries to come."""
    images, entries = [], []
    for source, future in reading:
        try:
            images.append((source, future.result()))
        except (InputError, MemoryError) as error:
            entries.append(_failure(source, error, job))
    images.sort(key=lambda item: item[1].shape)  # a header can say otherwise
    for _, group in groupby(images, key=lambda item: item[1].shape):
        same = list(group)
        try:
            results = _predict(predictor, [levels for _, levels in same], "surface" in job.kinds)
        except MemoryError as error:
            entries += [_failure(source, error, job) for source, _ in same]
            continue
        for (source, _), result in zip(same, results, strict=True):
            if not np.isfinite(result.logits).all():
                raise InputError(
                    f"{source.path}: its map has NaN or infinity: the weights are damaged"
                )
            entries.append(pool.submit(_write, predictor, source, result, job))
    return entries


def _predict(predictor: Predictor, images: list[np.ndarray], background: bool) -> list[Result]:
    """`Predictor.predict`, one by one where all at once do not fit into memory."""
    try:
        return predictor.predict(images, background)
    except MemoryError:
        if len(images) == 1:
            raise
    return [predictor.predict([levels], background)[0] for levels in images]


def _failure(source: Source, error: Exception, job: Job) -> Future:
    """The entry of a file that cannot be predicted."""
    reason = str(error)
    if isinstance(error, MemoryError):
        reason = f"{source.path}: does not fit into memory; cut it into smaller images"
    if job.strict:
        raise InputError(reason) from error
    entry: Future = Future()
    entry.set_result({"name": source.name, "image": str(source.path), "error": reason})
    return entry


def _write(predictor: Predictor, source: Source, result: Result, job: Job) -> Entry:
    """Write the files of an image; returns its entry."""
    height, width = result.logits.shape
    entry: Entry = {
        "name": source.name,
        "image": str(source.path),
        "width": width,
        "height": height,
        "limits": result.limits,
    }
    _write_files(predictor, source.name, result, job)
    if "boxes" in job.kinds:
        entry["detections"] = [_row(d) for d in result.detections]
    return entry


def _row(detection: Detection) -> dict:
    return {key: round(value, 4) for key, value in detection._asdict().items()}


def _write_files(predictor: Predictor, name: str, result: Result, job: Job) -> None:
    for kind in _files_of(job):
        path = map_path(job.folder, kind, name)
        if kind == "img":
            write_probability(path, result.logits)
        elif kind == "mat":
            write_logits(path, result.logits)
        elif kind == "mask":
            write_bytes(path, encode_png(result.mask.view(np.uint8) * np.uint8(255)))
        elif kind == "overlay":
            write_bytes(path, encode_png(overlay(result)))
        elif kind == "stages":
            write_bytes(path, stage_figure(predictor, result))
        else:
            write_bytes(path, surface_figure(result))


def _predict_video(predictor: Predictor, source: Source, job: Job) -> Entry:
    """Annotate a video; returns its entry, with the detections of all frames."""
    try:
        video = open_video(source.path)
    except InputError as error:
        return _failure(source, error, job).result()
    detections: list[dict] = []
    background = job.frames and "surface" in job.kinds
    count = 0
    with (
        new_video(_annotated(job, source), video.fps) as add,
        tqdm(
            desc=source.path.name,
            total=video.count or None,
            unit="frame",
            leave=False,
            dynamic_ncols=True,
        ) as bar,
    ):
        for frames in _in_batches(video.frames, _batch_pixels(predictor)):
            results = _predict(predictor, [frame.levels for frame in frames], background)
            for frame, result in zip(frames, results, strict=True):
                add(overlay(result))
                if job.frames:
                    name = f"{source.name}/{frame.number:06d}"
                    _write_files(predictor, name, result, job)
                detections += [
                    _row(d) | {"frame": frame.number, "time": round(frame.time, 4)}
                    for d in result.detections
                ]
            height, width = results[0].logits.shape
            count += len(frames)
            bar.update(len(frames))
    if count < video.count:
        print(f"{source.path}: {count} of {video.count} frames could be decoded", file=sys.stderr)
    return {
        "name": source.name,
        "image": str(source.path),
        "width": width,
        "height": height,
        "frames": count,
        "fps": video.fps,
        "detections": detections,
    }


def _in_batches(frames: Iterator[Frame], most_pixels: int) -> Iterator[list[Frame]]:
    for frame in frames:
        count = max(1, most_pixels // frame.levels.size)
        yield [frame, *islice(frames, count - 1)]
