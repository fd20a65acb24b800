"""Writing: a file or folder is there whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from .options import InputError


def write_bytes(path: Path, data: bytes) -> None:
    """Write under a temporary name beside ``path``, then rename: a crash leaves the old or the new.

    Raises:
        InputError: no permission, no space, a file in place of a folder.
    """
    temporary = _temporary(path)
    with _write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_text(path: Path) -> Iterator[TextIO]:
    """A text file to fill (UTF-8), which replaces ``path`` when the block ends without an error."""
    temporary = _temporary(path)
    with _write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8", newline="") as file:
                yield file
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """`write_bytes` for JSON: UTF-8, indented, NaN refused."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Raises InputError where there is no such file, or no JSON in it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, which may be new."""
    with _write_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def make_folder(path: Path) -> None:
    """Make a folder and its parents; an existing one is fine.

    Raises:
        InputError: it cannot be made.
    """
    with _write_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, which replaces ``path`` when the block ends without an error."""
    temporary = _temporary(path)
    with _write_errors(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason}); choose another place") from error
