"""Images and masks decoded once, into one file that every process maps into its memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..files import new_file
from ..options import InputError
from .dataset import PairDataset

_VERSION = 3  # since images are turned as their orientation tag says
_MARK = b"MSCACHE1"  # the last bytes, after the index and its length


class CachedPairs(PairDataset):
    """`PairDataset` from a cache file: the same samples, bit for bit.

    The pixels stay on the disk, and in the memory that the system has to spare. A copy sent to
    another process takes the file's name along, not its content.

    Args:
        samples: what is cached.
        path: of the cache file. It is written where it is missing, damaged or of another key.
        key: the samples' `data_sha256`, which tells a changed file.

    Raises:
        InputError: a pair that cannot be read, a cache that cannot be written.
    """

    def __init__(self, samples: PairDataset, path: Path, key: str):
        self.pairs, self.level_range, self.path = samples.pairs, samples.level_range, path
        self._pixels: np.ndarray | None = None
        index = _read_index(path)
        if index.get("key") != key:
            try:
                _write(samples, path, key)
            except InputError:  # Windows, where another process has just written it, and maps it
                if _read_index(path).get("key") != key:
                    raise
            index = _read_index(path)
        self._entries: list[Any] = index["entries"]
        self._key = key

    def levels(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self._pixels is None:
            if _read_index(self.path).get("key") != self._key:
                raise InputError(
                    f"{self.path}: rewritten by another job since; give each its own --cache DIR"
                )
            self._pixels = np.memmap(self.path, np.uint8, "r")
        start, height, width, depth = self._entries[index]
        middle, end = start + height * width * depth, start + height * width * (depth + 1)
        levels = self._pixels[start:middle].view(f"<u{depth}").reshape(height, width)
        return levels, self._pixels[middle:end].view(bool).reshape(height, width)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pixels": None}


def _write(samples: PairDataset, path: Path, key: str) -> None:
    """One pair after the other: image, mask; then the index, its length and the mark."""
    entries, at = [], 0
    with new_file(path) as file:
        for levels, mask in _progress(samples):
            height, width = levels.shape
            depth = levels.itemsize
            entries.append((at, height, width, depth))
            content = levels.astype(f"<u{depth}").tobytes() + mask.tobytes()
            content += bytes(len(content) % 2)  # 16-bit images begin at even bytes
            file.write(content)
            at += len(content)
        content = {"version": _VERSION, "key": key, "bytes": at, "entries": entries}
        index = json.dumps(content).encode()
        file.write(index + len(index).to_bytes(8, "little") + _MARK)


def _progress(samples: PairDataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for index in tqdm(range(len(samples)), "caching", leave=False, delay=2, dynamic_ncols=True):
        yield samples.levels(index)


def _read_index(path: Path) -> dict[str, Any]:
    """Empty where there is no cache of this version."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(size - 16)
            length, mark = int.from_bytes(file.read(8), "little"), file.read(8)
            if mark != _MARK or length > size - 16:
                return {}
            file.seek(size - 16 - length)
            index = json.loads(file.read(length))
    except (OSError, ValueError):  # missing, too short, or damaged
        return {}
    whole = index["version"] == _VERSION and index["bytes"] == size - 16 - length
    return index if whole else {}
