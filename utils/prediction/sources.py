"""What to predict: files, folders and patterns, each file with the name of its outputs."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.images import SUFFIXES
from ..files import checked_name, folded, read_errors
from ..options import InputError

PHOTOS = SUFFIXES | {".npy"}
VIDEOS = frozenset(
    {".mp4", ".m4v", ".avi", ".mov", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".ts"}
)
_WILD = "*?["


class Source(NamedTuple):
    name: str  # of its outputs: the path below the folder that was asked for, without suffix
    path: Path

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEOS


def find_sources(inputs: Sequence[str], without: Sequence[Path] = ()) -> list[Source]:
    """The images and videos that are meant, sorted by name.

    Args:
        inputs: each a file, a folder (with all below it) or a pattern (``**`` for folders of any
            depth). Files of other kinds and hidden ones are passed over, unless named themselves.
        without: folders whose files are none of them, unless an input lies in it: those of the
            outputs.

    Returns:
        Sources with names of their own: where two files would write to the same, also on a disk
        that ignores case, the suffix becomes a part of the name, and then a number.

    Raises:
        InputError: nothing there, no image or video in it, a file name that is not text, a folder
            that may not be entered, or one below it that may not be listed.
    """
    folders = [folder.resolve() for folder in without]
    found: dict[Path, str] = {}  # by resolved folder: one file named twice is one source
    for text in inputs:
        with read_errors(text):
            base, paths = _expand(text)
            checked_name(str(base.resolve()), base)
            excluded = [folder for folder in folders if not base.resolve().is_relative_to(folder)]
            for path in paths:
                if not any(map(path.resolve().is_relative_to, excluded)):
                    name = path.relative_to(base).with_suffix("").as_posix()
                    # of a link, the name that it has here: what it leads to may have no suffix
                    place = path.parent.resolve() / path.name
                    found.setdefault(place, checked_name(name, base))
    if not found:
        raise InputError(f"{' '.join(inputs)}: no image or video ({_kinds()})")
    return sorted(Source(name, path) for path, name in _own_names(found).items())


def origins(inputs: Sequence[str]) -> tuple[str, ...]:
    """The folders that names of outputs are relative to, one for each input.

    Raises:
        InputError: nothing there.
    """
    return tuple(str(_base(text).resolve()) for text in inputs)


def title(inputs: Sequence[str]) -> str:
    """A name for the outputs: that of the folder of the first input, or of the only file without
    its suffix."""
    path = Path(inputs[0])
    if path.is_dir():
        name = path.resolve().name
    elif _is_pattern(inputs[0]):
        name = _fixed_part(path).resolve().name
    else:
        name = path.stem if len(inputs) == 1 else path.resolve().parent.name
    return name.rstrip(" .") or "images"  # Windows has no folder that ends so


def _expand(text: str) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the files."""
    path, base = Path(text), _base(text)
    if path.is_file():
        return base, [path]
    found = _below(path) if path.is_dir() else map(Path, glob.glob(text, recursive=True))
    return base, _kept(base, found)


def _below(folder: Path) -> Iterator[Path]:
    """The files in a folder and in those below it, but for hidden ones.

    `Path.rglob` passes over folders that may not be listed.
    """

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files)


def _base(text: str) -> Path:
    """The folder that names are relative to."""
    path = Path(text)
    if path.is_file():
        return path.parent
    if path.is_dir():
        return path
    if _is_pattern(text):
        return _fixed_part(path)
    raise InputError(f"{text}: no such file, folder or data set")


def _kept(base: Path, paths) -> list[Path]:
    return [
        path
        for path in paths
        if path.suffix.lower() in PHOTOS | VIDEOS
        and not any(part.startswith(".") for part in path.relative_to(base).parts)
        and path.is_file()
    ]


def _is_pattern(text: str) -> bool:
    return any(c in text for c in _WILD) and not Path(text).exists()


def _fixed_part(pattern: Path) -> Path:
    """The folder before the first part with a wildcard."""
    fixed = Path(pattern.anchor)
    for part in pattern.relative_to(pattern.anchor).parts[:-1]:
        if any(c in part for c in _WILD):
            break
        fixed /= part
    return fixed


def _own_names(names: dict[Path, str]) -> dict[Path, str]:
    shared = Counter(folded(name) for name in names.values())
    own: dict[Path, str] = {}
    taken = {name for name, count in shared.items() if count == 1}
    for path, name in sorted(names.items()):
        if shared[folded(name)] > 1:
            stem = name = f"{name}_{path.suffix[1:].lower()}"
            number = 1
            while folded(name) in taken:
                number += 1
                name = f"{stem}_{number}"
            taken.add(folded(name))
        own[path] = name
    return own


def _kinds() -> str:
    return ", ".join(sorted(PHOTOS) + sorted(VIDEOS))
