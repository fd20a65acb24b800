"""The built-in data set: generated scenes in the layout of every other data set."""

from pathlib import Path

from ..files import new_folder, read_json, write_bytes, write_json
from ..options import InputError
from .images import encode_png
from .scenes import make_scene

_SIDE = 128  # px
_SEEDS = {"trainval": range(0, 240), "test": range(10_000, 10_064)}
_SCR = (6.0, 16.0)  # dim to clear: a few minutes of training find most of them
SCENES = "scenes.json"  # what a set of scenes was made by
_CONTENT = {
    "version": 1,
    "side": _SIDE,
    "scr": list(_SCR),
    "scenes": {k: [s[0], len(s)] for k, s in _SEEDS.items()},
}


def write_builtin(folder: Path) -> Path:
    """Write the built-in data set, unless it is there; returns the folder.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    if folder.exists():
        if not (folder / SCENES).is_file():
            raise InputError(f"{folder}: this name is kept for built-in scenes; rename the folder")
        counts = {split: len(seeds) for split, seeds in _SEEDS.items()}
        if holds_scenes(folder, counts) and read_json(folder / SCENES) == _CONTENT:
            return folder
    with new_folder(folder) as temporary:
        for split, seeds in _SEEDS.items():
            for seed in seeds:
                scene = make_scene(seed, _SIDE, _SIDE, scr=_SCR)
                for kind, levels in (("images", scene.image), ("masks", scene.mask)):
                    path = temporary / split / kind / f"scene_{seed:05d}.png"
                    write_bytes(path, encode_png(levels))
        write_json(temporary / SCENES, _CONTENT)
    return folder


def holds_scenes(folder: Path, counts: dict[str, int]) -> bool:
    """Whether a set of scenes is there with as many images and masks in each split."""
    return (folder / SCENES).is_file() and all(
        sum(1 for _ in (folder / split / kind).glob("*.png")) == count
        for split, count in counts.items()
        for kind in ("images", "masks")
    )
