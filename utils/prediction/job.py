"""Many files: order, failures, outputs."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from model.msconet import STRIDE

from ..data.dataset import list_images
from ..data.images import photo_size, png_buffer, read_levels, read_photo, resize, row_blocks
from ..data.ranges import Limits, Range, stretched
from ..files import make_folder, remove, write_bytes
from ..group import Group
from ..memory import memory_errors
from ..metrics.job import remove_scores
from ..options import InputError, unheard
from ..results import (
    map_path,
    read_record,
    write_logits,
    write_probability,
    write_record,
)
from .detections import Detection
from .journal import (
    Entry,
    Journal,
    Settings,
    begun,
    frame_name,
    stamp,
    unfinished,
    video_path,
)
from .pictures import overlay, stage_figure, surface_figure
from .predictor import Predictor, Result
from .sources import Source
from .videos import DamagedVideo, Frame, new_video, open_video

KINDS = ("img", "mat", "mask", "overlay", "boxes", "stages", "surface")
_AHEAD = 2  # batches that are read while another is predicted
_IN_MEMORY = 2**25  # pixels of all images on their way, unless a single one has more
_BATCH_ON_GPU = 2**21  # pixels
_BATCH_ON_CPU = 2**18
_BATCH = 64  # images
_sees_stages = threading.Lock()  # one at a time: a figure takes every stage of an image

Read = Callable[[Path], np.ndarray]
Note = Callable[[Entry], None]


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
        read_size: what ``read`` brings images to, px square; 0: it does not.
        read_range: the grey levels that ``read`` makes 0 and 1; None: it does not.
        origins: folders that the images are from, kept in the journal; outputs of images from
            others only are not mixed with theirs.
    """

    folder: Path
    kinds: tuple[str, ...] = ("img", "mat")
    frames: bool = False
    skip_existing: bool = False
    strict: bool = False
    read: Read = read_photo
    read_size: int = 0
    read_range: Range | None = None
    origins: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """Of all processes, in the leading one; of the others empty."""

    predicted: int  # files, with those that an earlier job had predicted
    failed: int


def predict_files(
    predictor: Predictor, sources: Sequence[Source], job: Job, group: Group | None = None
) -> Outcome:
    """Predict images and videos. The processes of a group share them.

    A file that cannot be read, or does not fit into memory, is named on stderr, written down in the
    journal and passed over. Outputs of an earlier job that is not gone on with are removed.

    Raises:
        InputError: outputs that cannot be written, weights that predict no finite numbers, an
            earlier job of images from elsewhere or, to be gone on with, of other settings; with
            ``strict`` also a file that cannot be read.
    """
    group = group or Group.alone()
    make_folder(job.folder)
    settings = _settings(predictor, job)
    stamps = _stamps(sources)
    journal = Journal(job.folder, settings, stamps, group, job.skip_existing, job.origins)
    journal.start()
    return _predict(predictor, sources, job, group, journal)


def _settings(predictor: Predictor, job: Job, **more: Any) -> Settings:
    """All that outputs depend on but the images."""
    return {
        "weights_sha256": predictor.network.sha256,
        "precision": predictor.network.precision,
        "tta": predictor.tta,
        "level range": job.read_range or predictor.level_range,
        "image size": predictor.size or job.read_size,
        "threshold": predictor.threshold,
        "min area": predictor.min_area,
        "outputs": sorted(job.kinds),
        "outputs of frames": job.frames,
    } | more


def _predict(
    predictor: Predictor, sources: Sequence[Source], job: Job, group: Group, journal: Journal
) -> Outcome:
    own = list(sources[group.rank :: group.world])
    todo = [source for source in own if not journal.has_outputs(source.name)]
    images = [source for source in todo if not source.is_video]
    videos = [source for source in todo if source.is_video]
    with (
        unheard(),
        tqdm(
            total=len(own),
            initial=len(own) - len(todo),
            unit="image",
            dynamic_ncols=True,
            disable=not group.leads,
        ) as bar,
    ):
        for entry in chain(
            _predict_images(predictor, images, job, journal.add),
            (_predict_video(predictor, video, job, journal.add, bar.disable) for video in videos),
        ):
            if "error" in entry:
                bar.write(f"skipped: {entry['error']}", file=sys.stderr)
            journal.add(entry)
            bar.update()
    has_videos = any(source.is_video for source in sources)
    entries = journal.finish(tables="boxes" in job.kinds or has_videos)
    failed = sum("error" in entry for entry in entries)
    return Outcome(len(entries) - failed, failed)


def predict_split(predictor: Predictor, split: Path, job: Job, group: Group) -> Outcome:
    """Predict every image of ``<split>/images`` for scoring; masks are not looked at.

    The maps get a record of what they are made from; what an earlier job left for other images, or
    of other kinds, is removed. One image that cannot be read stops the job before it has written
    anything.

    Args:
        job: with ``mat`` among its kinds, which is what is scored.

    Raises:
        InputError: an image that cannot be read, a folder that cannot be written or holds maps of
            unknown origin, weights that predict no finite numbers.
    """
    images = list_images(split / "images")
    with ThreadPoolExecutor() as pool:
        deque(pool.map(_try_to_read, images.values()), maxlen=0)
    folder = job.folder
    if folder.resolve() == split.parent.resolve():
        raise InputError(
            f"{folder}: holds the data set itself; choose another folder with --results"
        )
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
        "size": job.read_size or None,
        "weights_sha256": predictor.network.sha256,
        "tta": predictor.tta,
        "images": sorted(earlier | images.keys()),
    }
    make_folder(folder)
    about = {key: record[key] for key in ("dataset", "data_root", "split")}
    settings = _settings(predictor, job, **about)
    sources = [Source(stem, path) for stem, path in images.items()]
    journal = Journal(folder, settings, _stamps(sources), group, keep=job.skip_existing)
    if group.leads:
        remove_scores(folder)
        write_record(folder, record)
    journal.start()
    outcome = _predict(predictor, sources, job, group, journal)
    if group.leads:
        complete = not outcome.failed
        write_record(folder, record | {"complete": complete, "images": sorted(images)})
    return outcome


def scoring_job(folder: Path, size: int, level_range: Range, **options: Any) -> Job:
    """A job for `predict_split`: grey levels in [0, 1], resized or not, as in training."""

    def read(path: Path) -> np.ndarray:
        image = stretched(read_levels(path), level_range)
        return resize(image, size) if size else image

    return Job(folder, read=read, read_size=size, read_range=level_range, **options)


def _stamps(sources: Sequence[Source]) -> dict[str, list[Any]]:
    return {source.name: stamp(source.path) for source in sources}


def _try_to_read(path: Path) -> None:  # and keep nothing: a set may be larger than memory
    read_levels(path)


def _files_of(job: Job) -> list[str]:
    """The kinds of which each image has a file."""
    return [kind for kind in job.kinds if kind != "boxes"]


def _predict_images(
    predictor: Predictor, sources: Sequence[Source], job: Job, note: Note
) -> Iterator[Entry]:
    """Read ahead, predict, and write behind, within a number of pixels."""
    pool, read = ThreadPoolExecutor(), memory_errors()(job.read)
    todo = deque(_batches(predictor, sources, job, pool))
    reading: deque[tuple[int, list[tuple[Source, Future]]]] = deque()
    writing: deque[tuple[int, list[Future]]] = deque()
    held = 0
    try:
        while todo or reading or writing:
            while todo and len(reading) < _AHEAD and (not held or held + todo[0][0] <= _IN_MEMORY):
                pixels, batch = todo.popleft()
                held += pixels
                reading.append((pixels, [(s, pool.submit(read, s.path)) for s in batch]))
            if reading:
                pixels, futures = reading.popleft()
                writing.append((pixels, _predict_batch(predictor, futures, job, pool, note)))
                del futures  # and with them the images
            if len(writing) > _AHEAD or not reading:
                pixels, written = writing.popleft()
                for future in written:
                    yield future.result()
                held -= pixels
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(
    predictor: Predictor, sources: Sequence[Source], job: Job, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, list[Source]]]:
    """Images of one size by their headers, small ones several at a time, with their pixels."""
    sizes = pool.map(photo_size, (source.path for source in sources))
    ordered = sorted(zip(sizes, sources, strict=True))
    for (height, width), items in groupby(ordered, key=lambda item: item[0]):
        same = [source for _, source in items]
        count = _batch_size(predictor, job, height, width)
        for start in range(0, len(same), count):
            batch = same[start : start + count]
            yield height * width * len(batch), batch


def _batch_size(predictor: Predictor, job: Job, height: int, width: int) -> int:
    """How many images of a size go through the network at once."""
    if not height * width:  # unreadable
        return 1
    side = predictor.size or job.read_size
    height, width = (-(-(side or length) // STRIDE) * STRIDE for length in (height, width))
    most = _BATCH_ON_CPU if predictor.device.type == "cpu" else _BATCH_ON_GPU
    return min(_BATCH, max(1, most // (height * width)))


def _predict_batch(
    predictor: Predictor,
    reading: list[tuple[Source, Future]],
    job: Job,
    pool: ThreadPoolExecutor,
    note: Note,
) -> list[Future]:
    """Predict what was read; returns the entries to come."""
    images, entries = [], []

    def fail(source: Source, error: Exception) -> None:
        entry: Future = Future()
        entry.set_result(_failure(source, error, job))
        entries.append(entry)

    for source, future in reading:
        try:
            images.append((source, future.result()))
        except (InputError, MemoryError) as error:
            fail(source, error)
    images.sort(key=lambda item: item[1].shape)  # a header can say otherwise
    for _, group in groupby(images, key=lambda item: item[1].shape):
        same = list(group)
        try:
            results = _results(predictor, same, "surface" in job.kinds)
        except MemoryError as error:
            for source, _ in same:
                fail(source, error)
            continue
        for (source, _), result in zip(same, results, strict=True):
            note(_begun(source))
            entries.append(pool.submit(_write, predictor, source, result, job))
    return entries


def _results(
    predictor: Predictor, images: list[tuple[Source, np.ndarray]], background: bool
) -> list[Result]:
    """`Predictor.predict`, one by one where all at once do not fit into memory."""
    arrays = [levels for _, levels in images]
    try:
        results = predictor.predict(arrays, background)
    except MemoryError:
        if len(images) == 1:
            raise
        results = None
    if results is None:  # after the except, whose error holds what the attempt took
        return [_results(predictor, [image], background)[0] for image in images]
    for (source, _), result in zip(images, results, strict=True):
        if not all(np.isfinite(result.logits[rows]).all() for rows in row_blocks(result.logits)):
            raise InputError(
                f"{source.path}: its map has NaN or infinity: the weights are damaged, or too "
                "coarse a --precision for them"
            )
    return results


def _failure(source: Source, error: Exception, job: Job) -> Entry:
    """The entry of a file that cannot be predicted."""
    reason = str(error)
    if isinstance(error, MemoryError):
        reason = f"{source.path}: does not fit into memory; cut it into smaller images"
    if job.strict:
        raise InputError(reason) from error
    return _entry(source) | {"error": reason}


def _given_up(source: Source, error: Exception, job: Job) -> Entry:
    """`_failure` of a file that some of the outputs were written of: they are removed."""
    for path in unfinished(job.folder, job.kinds, _begun(source)):
        remove(path)
    return _failure(source, error, job)


def _begun(source: Source) -> Entry:
    return begun(source.name, source.path, source.is_video)


def _entry(source: Source) -> Entry:
    return {"name": source.name, "image": str(source.path), "file": stamp(source.path)}


def _write(predictor: Predictor, source: Source, result: Result, job: Job) -> Entry:
    """Write the files of an image; returns its entry."""
    try:
        with memory_errors():
            _write_files(predictor, source.name, result, job)
            detections = [_row(d) for d in result.detections] if "boxes" in job.kinds else None
    except MemoryError as error:
        return _given_up(source, error, job)
    height, width = result.logits.shape
    entry = _entry(source) | {"width": width, "height": height, "limits": result.limits}
    return entry if detections is None else entry | {"detections": detections}


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
            write_bytes(path, png_buffer(result.mask.view(np.uint8) * np.uint8(255)))
        elif kind == "overlay":
            write_bytes(path, png_buffer(overlay(result)))
        elif kind == "stages":
            with _sees_stages:
                write_bytes(path, stage_figure(predictor, result))
        else:
            write_bytes(path, surface_figure(result))


def _predict_video(
    predictor: Predictor, source: Source, job: Job, note: Note, quiet: bool
) -> Entry:
    """Annotate a video; returns its entry, with the detections of all frames."""
    note(_begun(source))
    try:
        with memory_errors():
            return _entry(source) | _annotate(predictor, source, job, quiet)
    except (DamagedVideo, MemoryError) as error:
        return _given_up(source, error, job)


def _annotate(predictor: Predictor, source: Source, job: Job, quiet: bool) -> Entry:
    video = open_video(source.path)
    detections: list[dict] = []
    limits: list[Limits] = []
    background = job.frames and "surface" in job.kinds
    with (
        new_video(video_path(job.folder, source.name), video.fps) as add,
        tqdm(
            desc=source.path.name,
            total=video.count or None,
            unit="frame",
            leave=False,
            dynamic_ncols=True,
            disable=quiet,
        ) as bar,
    ):
        for frames in _in_batches(video.frames, _batch_size(predictor, job, *video.shape)):
            results = _results(predictor, [(source, frame.levels) for frame in frames], background)
            for frame, result in zip(frames, results, strict=True):
                add(overlay(result))
                if job.frames:
                    name = frame_name(source.name, source.path, frame.number)
                    _write_files(predictor, name, result, job)
                detections += [
                    _row(d) | {"frame": frame.number, "time": round(frame.time, 4)}
                    for d in result.detections
                ]
                limits.append(result.limits)
            bar.update(len(frames))
    if len(limits) < video.count:
        tqdm.write(
            f"{source.path}: {len(limits)} of {video.count} frames could be decoded",
            file=sys.stderr,
        )
    height, width = video.shape
    return {
        "width": width,
        "height": height,
        "frames": len(limits),
        "frames_stated": video.count,  # by the file: more, where it is cut off
        "fps": video.fps,
        "limits": limits[0] if len(set(limits)) == 1 else limits,
        "detections": detections,
    }


def _in_batches(frames: Iterator[Frame], count: int) -> Iterator[list[Frame]]:
    while batch := list(islice(frames, count)):
        yield batch
