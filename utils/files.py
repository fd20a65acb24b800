"""Files and folders: what is written anew is there whole or not at all."""

import csv
import glob
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import unicodedata
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from filelock import FileLock, Timeout

from .options import InputError

_PATIENCE = 20.0  # s, in which another program closes a file
_ASIDE = "old.tmp"
_IN_USE = (5, 32)  # Windows: access denied, a sharing violation
# what Windows cannot store, or stores elsewhere: a:b is a hidden stream of the file a
_UNSTORABLE = re.compile(
    r'[\x00-\x1f\x7f<>:"|?*]|[. ]$|^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\.|$)',
    re.IGNORECASE,
)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write under a temporary name beside ``path``, then rename: a crash leaves the old or the new.

    Raises:
        InputError: no permission, no space, a file in place of a folder.
    """
    with new_file(path) as file:
        file.write(data)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to fill, which replaces ``path`` when the block ends without an error."""
    if not path.name:
        raise InputError(f"{path}: expected the name of a file")
    temporary = temporary_path(path)
    with write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            rename(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_text(path: Path) -> Iterator[TextIO]:
    """`new_file` for text: UTF-8, lines as they are."""
    with new_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.detach()


@contextmanager
def new_csv(path: Path) -> Iterator[Any]:
    """`new_file` for a table: a `csv.writer`, whose lines end alike on every system."""
    with new_text(path) as file:
        yield csv.writer(file, lineterminator="\n")


def rename(source: Path, target: Path) -> None:
    """`os.replace`, tried again while another program has a file open."""
    _patiently(lambda: os.replace(source, target))


def remove(path: Path) -> None:
    """Remove a file, if it is there, as patiently.

    Raises:
        InputError: it cannot be removed.
    """
    with write_errors(path):
        _patiently(lambda: path.unlink(missing_ok=True))


def _patiently(change: Callable[[], None]) -> None:
    """Windows refuses to change a file that another program, such as a virus scanner, has open:
    there it is tried for some seconds."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return change()
        except PermissionError as error:
            in_use = getattr(error, "winerror", None) in _IN_USE
            if not in_use or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def write_json(path: Path, content: Any) -> None:
    """`write_bytes` for JSON: UTF-8, indented, NaN refused."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    # of a path that is not text: Python's escape is that of JSON, too
    write_bytes(path, (text + "\n").encode(errors="backslashreplace"))


def read_json(path: Path) -> dict[str, Any]:
    """Raises InputError where there is no such file, or no JSON object in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object")
    return content


def list_folder(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files.

    Raises:
        InputError: no such folder, one that cannot be read, or a name that is not text.
    """
    try:
        paths = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except FileNotFoundError:
        raise InputError(f"{folder}: no such folder") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
    for path in paths:
        checked_name(path.name, folder)
    return paths


def files_by_name(
    folder: Path,
    suffixes: Collection[str],
    name_of: Callable[[Path], str | None] = lambda path: path.stem,
) -> dict[str, Path]:
    """The files of a folder that have these suffixes, by the name of their image; sorted by it.

    Args:
        folder: its own files, none below.
        suffixes: in lower case.
        name_of: the name for a file; None: it is passed over.

    Raises:
        InputError: no such folder, no such file in it, or two of one name.
    """
    found: dict[str, Path] = {}
    for path in list_folder(folder):
        if path.suffix.lower() in suffixes:
            name = name_of(path)
            if name is None:
                continue
            if name in found:
                raise InputError(f"{path}: {found[name].name} is of the same image; keep one")
            found[name] = path
    if not found:
        raise InputError(f"{folder}: no file in it ({', '.join(sorted(suffixes))})")
    return dict(sorted(found.items()))


def checked_name(name: str, folder: Path) -> str:
    """The name, if it is text; raises InputError otherwise."""
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of another encoding, as old archives hold
        raise InputError(f"{folder}: the file name {ascii(name)} is not UTF-8; rename it") from None
    return name


def some_names(names: Collection[str]) -> str:
    """The first few of many, for a message of one line."""
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(shown(name) for name in sorted(names)[:5]) + rest


def shown(name: str) -> str:
    """A name from a file that may hold anything, for a message of one line."""
    name = name if name.isprintable() else ascii(name)[1:-1]
    return name if len(name) <= 100 else f"{name[:100]}..."


def is_storable(name: str) -> bool:
    """Whether every system can store a file of this name."""
    return bool(name) and not _UNSTORABLE.search(name)


def folded(name: str) -> str:
    """Equal for names that are one on a disk that ignores case, or how accents are written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, which may be new."""
    with write_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def make_folder(path: Path) -> None:
    """Make a folder and its parents; an existing one is fine.

    Raises:
        InputError: it cannot be made.
    """
    with write_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """While the block runs, no other process of this user and machine enters one for this folder.

    The lock is a file of the system's folder for temporary ones: in the folder itself it would be
    left behind, and not every disk has locks. Where there are none, the block runs without.

    Raises:
        InputError: another process is in one.
    """
    user = getattr(os, "getuid", int)()
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    with ExitStack() as stack:
        try:
            path = Path(tempfile.gettempdir(), f"msconet-{user}-{key}.lock")
            # seconds: what loads images for a process that was killed ends a bit later
            stack.enter_context(FileLock(path, timeout=10))
        except Timeout:
            raise InputError(
                f"{folder}: another process writes to it; wait for its end, or choose another "
                "folder"
            ) from None
        except (OSError, NotImplementedError):
            pass
        yield


def is_folder(path: Path) -> bool:
    """False also where it cannot be said: below a folder that may not be entered, such as
    lost+found, or by a name that no disk has."""
    try:
        return path.is_dir()
    except OSError:
        return False


def restore(path: Path) -> None:
    """Put back the folder that `new_folder` had set aside when it was killed."""
    path = _led_to(path)
    aside = _beside(path, _ASIDE)
    if aside.exists() and not path.exists():
        with write_errors(path):
            rename(aside, path)


def _led_to(path: Path) -> Path:
    """Where a link leads, a junction of Windows, too; else the path."""
    return path.resolve() if path.is_symlink() or path.exists() else path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, which replaces ``path`` when the block ends without an error.

    The old folder is set aside by its name while the new one takes it; where a crash came in
    between, the next call puts it back first. Of a link, what it leads to is replaced.
    """
    path = _led_to(path)
    temporary, aside = temporary_path(path), _beside(path, _ASIDE)
    with write_errors(path):
        try:
            temporary.mkdir(parents=True)
            restore(path)
            yield temporary
            shutil.rmtree(aside, ignore_errors=True)
            if path.is_dir():
                rename(path, aside)
            try:
                rename(temporary, path)
            except BaseException:
                if aside.exists():
                    rename(aside, path)
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder for the length of the block, hidden in ``parent``, on the same disk."""
    with write_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        # not tempfile's: on Windows what is made there stays its owner's alone
        folder = temporary_path(parent / "unpacked")
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place(source: Path, target: Path) -> None:
    """The file under a second name: a hard link where the disk has them, else a copy.

    Of a file that may not be written, a copy: Windows would not let the link be removed.
    """
    source = source.resolve()
    with write_errors(target):
        if source.stat().st_mode & stat.S_IWUSR:
            with suppress(OSError):
                return os.link(source, target)
        shutil.copyfile(source, target)


def temporary_path(path: Path) -> Path:
    """Beside ``path``, hidden, new, and no longer than a disk allows."""
    # not the number of the process: in a container that is the same again after a crash
    return _beside(path, f"{secrets.token_hex(4)}.tmp")


def leftovers(path: Path) -> Iterator[Path]:
    """The temporary files of ``path`` that a process which was killed has left."""
    return path.parent.glob(f"{glob.escape(_beside(path, '').name)}????????.tmp*")


def _beside(path: Path, ending: str) -> Path:
    name = path.name
    if len(os.fsencode(name)) > 200:
        name = f"{name[:25]}.{zlib.crc32(os.fsencode(name)):08x}"  # at most 100 bytes and 9
    return path.with_name(f".{name}.{ending}")


@contextmanager
def read_errors(path: Path | str) -> Iterator[None]:
    """Turn errors of reading ``path``, or what is in it, into one line for people."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read ({error.strerror})") from error


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn errors of writing ``path`` into one line for people."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason}); choose another place") from error
