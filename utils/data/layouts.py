"""Foreign layouts of data sets: which image, which mask, which split."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..files import folded, is_folder, list_folder, some_names
from ..options import InputError
from .dataset import Pair, list_images
from .lists import read_list
from .sampling import hold_out

SPLITS = ("trainval", "test")

_IMAGES_AND_MASKS = (
    ("images", "masks"),
    ("IRSTD1k_Img", "IRSTD1k_Label"),  # IRSTD-1k
    ("mixed", "annotations/masks"),  # SIRST-V2
)
_LISTS = (  # of trainval and test; the first that are there
    ("img_idx/train_*.txt", "img_idx/test_*.txt"),  # BasicIRSTD
    ("img_idx/train.txt", "img_idx/test.txt"),
    ("50_50/train.txt", "50_50/test.txt"),  # DNANet
    ("idx_427/trainval.txt", "idx_427/test.txt"),  # SIRST
    ("splits/trainval_full.txt", "splits/test_full.txt"),  # SIRST-V2
    ("trainval.txt", "test.txt"),
    ("train.txt", "test.txt"),
)
_MASK_ENDINGS = ("", "_pixels0")  # of the stem of a mask, after that of its image: SIRST


class Found(NamedTuple):
    layout: str  # in words
    splits: dict[str, list[Pair]]  # by the names of `SPLITS`, each sorted by name
    notes: list[str]  # what a person should know


class Division(NamedTuple):
    """Which images are for testing, where the source does not say, or against what it says."""

    lists: tuple[Path, Path] | None = None  # of names for trainval, for test
    share: float | None = None  # of the images, drawn for trainval
    seed: int = 0


def recognise(source: Path, division: Division | None = None) -> Found:
    """Find the pairs of a data set.

    Args:
        source: a folder in one of the layouts in circulation, or a folder around one.
        division: instead of the split lists that are there.

    Raises:
        InputError: no layout that is known; an image without a mask; no split, or two; a list with
            names that are not there, or with images of the other list.
    """
    division = division or Division()
    folder = _unwrapped(source)
    if _is_ours(folder):
        if division.lists or division.share:
            raise InputError(f"{folder}: is split already; leave out --split and --split-file")
        splits, places = {}, _split_folders(folder)
        for split, place in places.items():
            splits[split] = _pairs(place / "images", place / "masks")
        names = ",".join(place.name for place in places.values())
        found = Found(f"{{{names}}}/{{images,masks}}", splits, [])
    else:
        found = _divided(folder, division)
    _no_clash(folder, found.splits)
    return found


def _unwrapped(source: Path) -> Path:
    """The folder itself, or the only one in it that holds a data set."""
    if _holds_a_set(source):
        return source
    inside = [path for path in list_folder(source) if is_folder(path) and _holds_a_set(path)]
    if len(inside) == 1:
        return inside[0]
    if {"train", "val", "test"} <= {path.name for path in inside}:
        raise InputError(
            f"{source}: has a val beside train and test; move its images and masks into train, of "
            "which training holds some out itself"
        )
    if {path.name for path in inside} == {"train", "val"}:
        raise InputError(
            f"{source}: has train and val, but no test; if val is the published test split, call "
            "it test"
        )
    if inside:
        names = ", ".join(path.name for path in inside)
        raise InputError(f"{source}: holds several data sets ({names}); name one of them")
    known = ", ".join(f"{images} and {masks}" for images, masks in _IMAGES_AND_MASKS)
    raise InputError(
        f"{source}: no layout that is known: expected trainval and test with images and masks in "
        f"each, or {known}"
    )


def _is_ours(folder: Path) -> bool:
    return all(is_folder(place / "images") for place in _split_folders(folder).values())


def _split_folders(folder: Path) -> dict[str, Path]:
    """Where the splits are; trainval may be called train, if there is no val."""
    trainval = folder / "trainval"
    if not is_folder(trainval) and not is_folder(folder / "val"):
        trainval = folder / "train"
    return {"trainval": trainval, "test": folder / "test"}


def _holds_a_set(folder: Path) -> bool:
    return _is_ours(folder) or _image_and_mask_folders(folder) is not None


def _image_and_mask_folders(folder: Path) -> tuple[str, str] | None:
    for images, masks in _IMAGES_AND_MASKS:
        if is_folder(folder / images) and is_folder(folder / masks):
            return images, masks
    return None


def _divided(folder: Path, division: Division) -> Found:
    """Images and masks in one folder each, and a split from somewhere."""
    images, masks = _image_and_mask_folders(folder)
    listed = division.lists or (None if division.share else _split_lists(folder))
    layout = f"{images}/, {masks}/"
    present = list_images(folder / images)
    notes = []
    if listed:
        layout += f" and the lists {listed[0].name} and {listed[1].name}"
        chosen = [read_list(path, present) for path in listed]
        both = set(chosen[0]) & set(chosen[1])
        if both:
            raise InputError(f"{listed[1]}: {some_names(both)} in {listed[0].name} too; keep one")
        left = len(present) - len(chosen[0]) - len(chosen[1])
        if left:
            notes.append(f"{left} images are in neither list and are left out")
    elif division.share:
        layout += f", {division.share:g} of them for trainval by seed {division.seed}"
        names = list(present)
        try:
            indices = hold_out(len(names), 1 - division.share, division.seed)
        except InputError as error:
            raise InputError(
                f"{folder / images}: --split {division.share:g} leaves none of its {len(names)} "
                "images for trainval"
            ) from error
        chosen = [[names[i] for i in part] for part in indices]
    else:
        raise InputError(
            f"{folder}: no split lists in it (such as trainval.txt and test.txt); give them as "
            "--split-file TRAINVAL TEST, or draw a split with --split 0.8"
        )
    names = sum(chosen, []) if listed else None
    pairs = {pair.name: pair for pair in _pairs(folder / images, folder / masks, names)}
    splits = {
        split: [pairs[name] for name in sorted(names)]
        for split, names in zip(SPLITS, chosen, strict=True)
    }
    return Found(layout, splits, notes)


def _split_lists(folder: Path) -> tuple[Path, Path] | None:
    for patterns in _LISTS:
        trainval, test = (sorted(folder.glob(pattern)) for pattern in patterns)
        if trainval and test:
            if len(trainval) > 1 or len(test) > 1:
                raise InputError(
                    f"{trainval[0].parent}: several split lists; choose with --split-file"
                )
            return trainval[0], test[0]
    return None


def _pairs(images: Path, masks: Path, names: Sequence[str] | None = None) -> list[Pair]:
    """The images of these names, or all there are of images and masks; sorted by name."""
    image_of, mask_of = list_images(images), list_images(masks)
    pairs, missing = [], []
    for name in sorted(image_of if names is None else names):
        found = [mask_of[name + end] for end in _MASK_ENDINGS if name + end in mask_of]
        if len(found) > 1:
            raise InputError(f"{found[1]}: {found[0].name} is a mask of {name} too; keep one")
        if found:
            pairs.append(Pair(name, image_of[name], found[0]))
        else:
            missing.append(name)
    if missing:
        raise InputError(f"{masks}: no mask for {some_names(missing)}")
    stray = mask_of.keys() - {pair.mask.stem for pair in pairs}
    if stray and names is None:
        raise InputError(f"{images}: no image for {some_names(stray)}")
    return pairs


def _no_clash(folder: Path, splits: dict[str, list[Pair]]) -> None:
    """Raises InputError where a disk that ignores case would take two names for one."""
    for pairs in splits.values():
        seen: dict[str, str] = {}
        for pair in pairs:
            other = seen.setdefault(folded(pair.name), pair.name)
            if other != pair.name:
                raise InputError(f"{folder}: {other} and {pair.name} are one name on some disks")
