"""Videos to frames, and frames to videos."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..files import checked_name, make_folder, rename, temporary_path, write_errors
from ..options import InputError

_FPS = 25.0  # where a file states none, or what is none
_MOST_FPS = 1000.0  # more are ticks of a clock
_GREY_16 = b"Y1\0\x10", b"\x10\x001Y"  # FFmpeg's formats of grey levels of 16 bits


class DamagedVideo(InputError):
    """A video that cannot be decoded, or not as one."""


class Frame(NamedTuple):
    number: int  # from 0
    time: float  # s since the first
    levels: np.ndarray  # (H, W) uint8 or uint16


class Video(NamedTuple):
    shape: tuple[int, int]  # of all frames
    fps: float  # frames a second
    count: int  # of frames, as the file states it; 0: it states none
    frames: Iterator[Frame]


def open_video(path: Path) -> Video:
    """A video, to be read frame by frame.

    Raises:
        DamagedVideo: not a video that OpenCV can decode; from ``frames``: one of another size.
    """
    if not path.is_file() or not os.access(path, os.R_OK):
        raise DamagedVideo(f"{path}: cannot be read")
    capture = cv2.VideoCapture(str(path))
    pixels = capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)
    if 0 < pixels < 2**32 and int(pixels).to_bytes(4, "little") in _GREY_16:
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)  # else OpenCV gives the upper 8 bits alone
    is_read, first = capture.read() if capture.isOpened() else (False, None)
    if not is_read:
        capture.release()
        raise DamagedVideo(f"{path}: not a video that can be decoded; replace or remove it")
    fps = capture.get(cv2.CAP_PROP_FPS)
    if not (math.isfinite(fps) and 0 < fps <= _MOST_FPS):
        fps = _FPS
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    count = int(count) if math.isfinite(count) and count > 0 else 0
    return Video(first.shape[:2], fps, count, _frames(path, capture, first, fps))


def _frames(
    path: Path, capture: cv2.VideoCapture, frame: np.ndarray, fps: float
) -> Iterator[Frame]:
    shape = frame.shape[:2]
    start = last = _seconds(capture)
    number, time = 0, 0.0
    try:
        while frame is not None:
            if frame.shape[:2] != shape:
                raise DamagedVideo(f"{path}: frame {number} has another size than the first")
            levels = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
            yield Frame(number, time, levels)
            number += 1
            frame = capture.read()[1]
            now = _seconds(capture)
            # some containers state no times; some cameras give frames at uneven ones
            time, last = (now - start, now) if now > last else (time + 1 / fps, last)
    finally:
        capture.release()


def _frames_in(path: Path) -> int:
    """As the file states it."""
    capture = cv2.VideoCapture(str(path))
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()


def _seconds(capture: cv2.VideoCapture) -> float:
    """Of the frame that was read last; 0 where the file does not say."""
    time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    return time if math.isfinite(time) else 0.0


@contextmanager
def new_video(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that adds (H, W, 3) uint8 frames to a video (MPEG-4), all of one size.

    The video replaces ``path`` when the block ends without an error. One more row or column is
    added to odd sizes, which the format does not have.

    Raises:
        DamagedVideo: the format has no such size or rate.
        InputError: it cannot be written, not whole at least.
    """
    checked_name(str(path), path.parent)  # OpenCV crashes at others
    make_folder(path.parent)
    temporary = temporary_path(path)
    temporary = temporary.with_name(temporary.name + path.suffix)  # by it OpenCV knows the format
    writer: cv2.VideoWriter | None = None
    added = 0

    def add(frame: np.ndarray) -> None:
        nonlocal writer, added
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if writer is None:
            size = frame.shape[1], frame.shape[0]
            writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
            if not writer.isOpened():
                raise DamagedVideo(
                    f"{path}: {size[0]}x{size[1]} px at {fps:g} frames a second cannot be written "
                    "as MPEG-4"
                )
        writer.write(frame)
        added += 1

    with write_errors(path):
        try:
            yield add
            if writer is not None:
                writer.release()
                if _frames_in(temporary) < added:  # OpenCV says nothing
                    raise InputError(f"{path}: cannot be written whole; is the disk full?")
                rename(temporary, path)
        finally:
            if writer is not None:
                writer.release()
            temporary.unlink(missing_ok=True)
