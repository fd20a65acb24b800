"""A data set as it was published, brought into the layout that this project reads."""

import filecmp
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

from ..files import (
    is_storable,
    new_folder,
    place,
    read_errors,
    restore,
    scratch_folder,
    write_errors,
)
from ..options import InputError
from .archives import unpack
from .catalogue import BUILTIN
from .dataset import PairDataset
from .layouts import Division, Found, recognise


def set_folder(name: str, data_root: Path) -> Path:
    """Where a data set of this name goes.

    Raises:
        InputError: no name of a folder, or that of the built-in scenes.
    """
    sized = len(name.encode(errors="replace")) <= 255  # as disks have it
    if re.search(r"[/\\]", name) or not is_storable(name) or name.startswith(".") or not sized:
        raise InputError(f"--name {name}: not a name for a folder; use letters, digits, - and _")
    if name == BUILTIN:
        raise InputError(f"--name {name}: this name is kept for built-in scenes; choose another")
    return data_root / name


@contextmanager
def new_set(folder: Path, replace: bool) -> Iterator[Path]:
    """`new_folder` for a data set; one that is there is replaced only if asked for."""
    restore(folder)
    _refuse_to_replace(folder, replace)
    with new_folder(folder) as temporary:
        yield temporary


def refuse_to_replace_source(source: Path, folder: Path) -> None:
    """Raises InputError where what a set is made of lies in the folder that the set replaces."""
    if source.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{source}: the set is to be written there; choose another --name")


def _refuse_to_replace(folder: Path, replace: bool) -> None:
    if folder.exists() and not replace:
        raise InputError(f"{folder}: holds something else; choose another --name, or --replace it")


def prepare(
    source: Path,
    folder: Path,
    division: Division | None = None,
    *,
    move: bool = False,
    replace: bool = False,
    dry_run: bool = False,
) -> tuple[Found, bool]:
    """Bring a data set into ``folder``: hard links to its files where the disk has them.

    Every pair is read before anything is written.

    Args:
        source: a folder, .zip or .tar, in one of the layouts that `recognise` knows.
        folder: of the set; a set that is there stays until the new one is complete.
        division: instead of the source's own split.
        move: remove the files from the source, once the set is there.
        replace: put the new set in the place of what is there.
        dry_run: write nothing.

    Returns:
        What was found, and whether the very set was there already.

    Raises:
        InputError: a source that is not a data set, whole and without contradictions; something
            else in its place; no room.
    """
    with read_errors(source):  # below a folder that may not be entered, or a name no disk has
        is_there = source.exists()
    if not is_there:
        raise InputError(f"{source}: no such file or folder")
    refuse_to_replace_source(source, folder)
    if folder.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{source}: the set is to be written there; rename it, or move it away")
    if move and not source.is_dir():
        raise InputError(f"{source}: --move is for folders; leave it out")
    with _unpacked(source, Path(gettempdir()) if dry_run else folder.parent) as unpacked:
        found = recognise(unpacked, division)
        pairs = [pair for split in found.splits.values() for pair in split]
        PairDataset.of(pairs).check()
        files = _files(found)
        if not dry_run:
            restore(folder)
        was_there = _is_there(folder, files)
        if not was_there:
            _refuse_to_replace(folder, replace)
        if not was_there and not dry_run:
            with new_set(folder, replace) as temporary:
                for name, path in files.items():
                    target = temporary / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    place(path, target)
    if move and not dry_run:
        for name, path in files.items():
            if path.resolve() != (folder / name).resolve():  # else it is the only one, by a link
                with write_errors(path):
                    path.unlink()
    return found, was_there


@contextmanager
def _unpacked(source: Path, parent: Path) -> Iterator[Path]:
    """The folder, or that of the archive's files; messages name the archive instead."""
    if source.is_dir():
        yield source
        return
    with scratch_folder(parent) as folder:
        try:
            unpack(source, folder)
            yield folder
        except InputError as error:
            raise InputError(str(error).replace(str(folder), str(source))) from error


def _files(found: Found) -> dict[str, Path]:
    """Where each file goes, and where it is."""
    files = {}
    for split, pairs in found.splits.items():
        for pair in pairs:
            files[f"{split}/images/{pair.name}{pair.image.suffix}"] = pair.image
            files[f"{split}/masks/{pair.name}{pair.mask.suffix}"] = pair.mask
    return files


def _is_there(folder: Path, files: dict[str, Path]) -> bool:
    paths = (p.relative_to(folder).as_posix() for p in folder.glob("*/*/*") if p.is_file())
    present = {path for path in paths if "/." not in f"/{path}"}  # without hidden ones
    return present == files.keys() and all(
        filecmp.cmp(path, folder / name, shallow=False) for name, path in files.items()
    )
