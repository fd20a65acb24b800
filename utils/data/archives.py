"""Archives to folders. An archive is hostile until shown otherwise."""

import gzip
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, NamedTuple

from ..files import checked_name, folded, is_storable, shown, write_errors
from ..options import InputError
from .images import SUFFIXES

_WANTED = SUFFIXES | {".txt"}  # all else is passed over
_MOST_MEMBERS = 100_000
_MOST_BYTES = 2**35  # unpacked
_MOST_PACKED = 200  # bytes unpacked a byte of the archive; images hold about 2, drawn masks 20
_FREE_BYTES = 2**26  # that any archive may unpack to
_MOST_HEADER = 2**20  # bytes of one header of a tar
_CHUNK = 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others reserve memory as a header says


class _Member(NamedTuple):
    name: str
    size: int  # bytes, as the archive claims
    kind: str  # "file", "folder", or what it is instead
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the images and text files of a .zip or .tar, compressed or not.

    All members are looked at before any is written. A link, a device, an encrypted member, a name
    that leads out of the folder, that some system cannot store or that differs from another in
    case alone, more members or bytes than any data set has: each refuses the archive.

    Args:
        archive: its kind is told by its content.
        folder: empty.

    Raises:
        InputError: refused, damaged, or no archive at all.
    """
    with _opened(archive, folder) as members:
        budget = _Budget(archive)
        files: dict[str, _Member] = {}
        seen: dict[str, tuple[str, bool]] = {}
        for count, member in enumerate(members, start=1):
            if count > _MOST_MEMBERS:
                raise InputError(
                    f"{archive}: more than {_MOST_MEMBERS} members; unpack it yourself"
                )
            path = _within(member.name, archive)
            if member.kind not in ("file", "folder"):
                raise InputError(f"{archive}: {shown(member.name)} is {member.kind}; refused")
            hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
            if member.kind == "file" and not hidden and path.suffix.lower() in _WANTED:
                budget.claim(member.size)
                _no_clash(path, seen, archive)
                files[str(path)] = member
        budget = _Budget(archive)
        for name, member in files.items():
            path = folder / name
            with write_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file, member.open() as content:
                    budget.copy(content, file)


class _Budget:
    """The bytes that an archive may unpack to."""

    def __init__(self, archive: Path):
        packed = archive.stat().st_size
        self.archive, self.used = archive, 0
        self.most = min(_MOST_BYTES, max(_FREE_BYTES, _MOST_PACKED * packed))

    def claim(self, size: int) -> None:
        self.used += size
        if size < 0 or self.used > self.most:
            raise InputError(
                f"{self.archive}: unpacks to more than {self.most >> 20} MiB, more than a data set "
                "of its size does; unpack it yourself"
            )

    def copy(self, source: IO[bytes], target: BinaryIO) -> None:
        while chunk := source.read(_CHUNK):
            self.claim(len(chunk))
            target.write(chunk)


@contextmanager
def _opened(archive: Path, folder: Path) -> Iterator[Iterator[_Member]]:
    """The members, in order; what goes wrong in reading them becomes one line."""
    plain = folder / ".unpacked.tar"
    try:
        with archive.open("rb") as file:
            start = file.read(8)
        if start[:2] == b"PK":
            with zipfile.ZipFile(archive) as content:
                yield _zip_members(content)
            return
        packed = start.startswith(b"\x1f\x8b")
        if packed:
            with gzip.open(archive) as content, plain.open("xb") as file:
                _Budget(archive).copy(content, file)
        with (plain if packed else archive).open("rb") as file:
            with tarfile.open(fileobj=_SmallReads(file), mode="r:") as content:
                yield _tar_members(content)
    except InputError:
        raise
    except OSError as error:
        if error.errno:
            raise InputError(f"{archive}: cannot be unpacked ({error.strerror})") from error
        raise _damaged(archive) from error  # of gzip: not a file of its kind
    except Exception as error:  # a damaged archive can raise anything
        raise _damaged(archive) from error
    finally:
        plain.unlink(missing_ok=True)


def _damaged(archive: Path) -> InputError:
    return InputError(
        f"{archive}: damaged, or none of .zip, .tar, .tar.gz; download it again, or unpack it"
    )


def _zip_members(content: zipfile.ZipFile) -> Iterator[_Member]:
    for info in content.infolist():
        mode = info.external_attr >> 16  # of Unix; 0 where the archive is from elsewhere
        if info.is_dir():
            kind = "folder"
        elif info.flag_bits & 1:
            kind = "encrypted"
        elif info.compress_type not in _METHODS:
            kind = "packed in an unusual way"
        elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
            kind = "file"
        else:
            kind = "a link" if stat.S_ISLNK(mode) else "a device"
        yield _Member(_zip_name(info), info.file_size, kind, lambda info=info: content.open(info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Names without the mark of UTF-8 are UTF-8 nevertheless where they can be."""
    if info.flag_bits & 0x800:
        return info.orig_filename
    try:
        return info.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.orig_filename


def _tar_members(content: tarfile.TarFile) -> Iterator[_Member]:
    for info in content:
        if info.isdir():
            kind = "folder"
        elif info.isreg() and not info.issparse():
            kind = "file"
        else:
            kind = "a link" if info.issym() or info.islnk() else "a device or of an unusual kind"
        yield _Member(
            info.name, info.size, kind, lambda info=info: _whole(content.extractfile(info))
        )
    content.fileobj.seek(content.offset)  # tarfile takes an end anywhere for the end
    if content.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError("no end mark")


def _whole(file: IO[bytes] | None) -> IO[bytes]:
    if file is None:
        raise ValueError("no file")
    return file


class _SmallReads:
    """A file that refuses to read much at once: headers of a tar are read whole, however long."""

    def __init__(self, file: BinaryIO):
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_HEADER:
            raise ValueError("a header of unlikely length")
        return self.file.read(size)


def _within(name: str, archive: Path) -> PurePosixPath:
    """The path of a member below the folder; raises InputError where it is not below."""
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts:
        raise InputError(f"{archive}: {shown(name)} leads out of the archive; refused")
    return PurePosixPath(*(part for part in parts if part != "."))


def _no_clash(path: PurePosixPath, seen: dict[str, tuple[str, bool]], archive: Path) -> None:
    """Note a file and its folders.

    Raises:
        InputError: some system cannot store the name, or a disk would merge two of them.
    """
    if not all(is_storable(part) for part in path.parts):
        raise InputError(
            f"{archive}: {shown(str(path))} is no file name on every system; unpack it yourself"
        )
    checked_name(str(path), archive)
    for part in (path, *path.parents[:-1]):
        key, now = folded(str(part)), (str(part), part is path)
        before = seen.setdefault(key, now)
        if before is not now and (before != now or part is path):
            raise InputError(
                f"{archive}: {shown(before[0])} and {shown(str(path))} are one name on some disks; "
                "unpack it yourself"
            )
