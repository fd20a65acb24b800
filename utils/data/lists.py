"""Lists of the names of images, as data sets have them for their splits."""

from collections.abc import Container
from pathlib import Path

from ..files import read_errors, some_names
from ..options import InputError
from .images import SUFFIXES

_MOST = 2**24  # bytes


def read_list(path: Path, present: Container[str], of: str = "image") -> list[str]:
    """The names in a list, one a line, each once: with or without folder and suffix.

    Args:
        path: UTF-8 text.
        present: the names that there are.
        of: what they are names of, in the error.

    Raises:
        InputError: no text, empty, or a name that is not present.
    """
    try:
        with read_errors(path):
            if path.stat().st_size > _MOST:
                raise InputError(f"{path}: too long for a list of names")
            text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text; expected a name a line") from error
    names: dict[str, None] = {}
    unknown = []
    for line in text.splitlines():
        entry = line.strip().replace("\\", "/").rsplit("/", 1)[-1]
        stem, dot, suffix = entry.rpartition(".")
        name = stem if dot and f".{suffix.lower()}" in SUFFIXES and entry not in present else entry
        if name in present:
            names[name] = None
        elif name:
            unknown.append(name)
    if unknown:
        raise InputError(f"{path}: no {of} for {some_names(unknown)}")
    if not names:
        raise InputError(f"{path}: empty; expected the name of an image a line")
    return list(names)
