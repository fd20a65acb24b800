"""The data sets under a folder, in the layout ``<root>/<name>/{trainval,test}/{images,masks}``."""

import re
from pathlib import Path
from typing import Any

from ..files import is_folder, list_folder
from ..options import InputError
from .builtin import write_builtin
from .images import SUFFIXES

DATA_ROOT = Path("datasets")
BUILTIN = "builtin"
PAPER_SETS = ("NUDT-SIRST", "IRSTD-1k", "sirst_aug")
PUBLISHED = {  # images in trainval and test
    "NUDT-SIRST": (663, 664),
    "IRSTD-1k": (800, 201),
    "sirst_aug": (8525, 545),
    "SIRST": (341, 86),
}
_OTHER_NAMES = {"nudt": "nudtsirst", "nuaasirst": "sirst"}  # those of scripts and papers


def list_datasets(data_root: Path) -> list[str]:
    """Names of the data sets under a folder: the paper's first, built-in data last."""
    if not data_root.exists():
        return []
    folders = list_folder(data_root)
    names = [p.name for p in folders if is_folder(p / "trainval") or is_folder(p / "test")]
    paper = [_key(name) for name in PAPER_SETS]

    def rank(name: str) -> tuple[bool, int, str]:
        key = _key(name)
        return name == BUILTIN, paper.index(key) if key in paper else len(paper), name

    return sorted(names, key=rank)


def find_dataset(name: str, data_root: Path) -> Path:
    """The folder of a data set, by its name or another spelling of it (``irstd1k``, ``nudt``).

    Raises:
        InputError: there is none; the message lists those there are.
    """
    names = list_datasets(data_root)
    if name in names:
        return data_root / name
    for candidate in names:
        if same_name(candidate, name):
            return data_root / candidate
    found = f"found there: {', '.join(names)}" if names else "there is none at all"
    raise InputError(
        f"no data set {name} in {data_root} ({found}); datasets/README.md says how to add one, "
        "--data-root names another folder"
    )


def same_name(a: str, b: str) -> bool:
    """Whether two spellings name one data set."""
    return _key(a) == _key(b)


def recorded_root(path: Any) -> Path:
    """The folder of data sets that a record names, while it is there: projects move."""
    return Path(path) if isinstance(path, str) and is_folder(Path(path)) else DATA_ROOT


def count_warning(name: str, trainval: int, test: int) -> str | None:
    """A line where a set has the name of a published one, but not as many images."""
    for published, counts in PUBLISHED.items():
        if same_name(name, published) and counts != (trainval, test):
            return (
                f"{trainval} / {test} images in trainval / test, but {published} was published "
                f"with {counts[0]} / {counts[1]}: figures cannot be compared"
            )
    return None


def _key(name: str) -> str:
    key = re.sub(r"[\W_]", "", name.casefold())
    return _OTHER_NAMES.get(key, key)


def choose_dataset(name: str | None, data_root: Path, to_train: bool = False) -> Path:
    """The folder of a data set.

    Args:
        name: None: the first there is, and built-in scenes failing all.
        data_root: the folder of data sets.
        to_train: whether the first is to have images to train on.

    Raises:
        InputError: there is none of this name, or the built-in scenes cannot be written.
    """
    if data_root != DATA_ROOT and not data_root.is_dir():
        raise InputError(f"{data_root}: no such folder of data sets; --data-root names it")
    if name is None:
        found = (other for other in list_datasets(data_root) if other != BUILTIN)
        if to_train:
            found = (o for o in found if _holds_images(data_root / o / "trainval" / "images"))
        name = next(found, None)
    if name is None:
        print(
            f"No data set in {data_root}: using built-in scenes. "
            "datasets/README.md says how to get NUDT-SIRST, IRSTD-1k and sirst_aug."
        )
        name = BUILTIN
    if name == BUILTIN:
        return write_builtin(data_root / BUILTIN)
    return find_dataset(name, data_root)


def _holds_images(folder: Path) -> bool:
    try:
        return any(path.suffix.lower() in SUFFIXES for path in list_folder(folder))
    except InputError:  # of a set that nobody asked for
        return False
