"""Any number of scenes with known targets, in the layout of every other data set."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import RandomState
from tqdm import tqdm

from ..files import new_csv, read_json, write_json
from ..options import InputError
from .builtin import SCENES, holds_scenes
from .dataset import list_images
from .images import encode_png, read_photo
from .layouts import SPLITS
from .manifest import file_sha256
from .pasting import Kind, Pasted, paste
from .prepare import new_set, refuse_to_replace_source
from .ranges import stretched
from .scenes import make_scene

_VERSION = 2  # since room for a target is sought under its own shape, not the mirrored one


@dataclass(frozen=True)
class Order:
    """What scenes are wanted. The same order gives the same files."""

    trainval: int  # scenes
    test: int
    size: tuple[int, int] | None  # height, width, px; None: that of the backgrounds
    targets: tuple[int, int]  # least and most in a scene, all equally likely
    kind: Kind
    seed: int


def generate(
    folder: Path, order: Order, backgrounds: Path | None = None, replace: bool = False
) -> dict[str, Any]:
    """Write scenes, targets.csv with a line for each target, and scenes.json with the order.

    Args:
        folder: of the new set.
        order: what is wanted.
        backgrounds: a folder of images without targets; None: backgrounds are generated. Images
            behind trainval are not behind test. They are brought to 8 bits.
        replace: put the new set in the place of what is there.

    Returns:
        How many ``scenes`` and ``targets`` there are, how many targets found ``no_place``, and
        whether the very set ``was_there``.

    Raises:
        InputError: too few backgrounds, or one that is smaller than the scenes.
    """
    files = []
    if backgrounds:
        refuse_to_replace_source(backgrounds, folder)
        files = list(list_images(backgrounds).values())
    shares = _shares(files, order, backgrounds)
    record = {"version": _VERSION, "order": asdict(order) | {"kind": order.kind._asdict()}}
    record["backgrounds"] = {path.name: file_sha256(path) for path in files}
    record = _as_json(record)
    if holds_scenes(folder, {"trainval": order.trainval, "test": order.test}):
        there = read_json(folder / SCENES)
        if {k: there.get(k) for k in record} == record and isinstance(there.get("counts"), dict):
            return there["counts"] | {"was_there": True}
    counts = {"scenes": order.trainval + order.test, "targets": 0, "no_place": 0}
    with new_set(folder, replace) as temporary:
        with new_csv(temporary / "targets.csv") as writer:
            writer.writerow(("split", "image", *Pasted._fields))
            for split in SPLITS:
                if not getattr(order, split):
                    continue  # no folder: a set may have one split alone
                for kind in ("images", "masks"):
                    (temporary / split / kind).mkdir(parents=True)
                for name, image, mask, targets, wanted in _scenes(split, order, shares[split]):
                    (temporary / split / "images" / name).write_bytes(encode_png(image))
                    (temporary / split / "masks" / name).write_bytes(encode_png(mask))
                    for target in targets:
                        numbers = (x if isinstance(x, int) else f"{x:.4f}" for x in target)
                        writer.writerow((split, name, *numbers))
                    counts["targets"] += len(targets)
                    counts["no_place"] += wanted - len(targets)
        write_json(temporary / SCENES, record | {"counts": counts})
    return counts | {"was_there": False}


def _shares(files: list[Path], order: Order, backgrounds: Path | None) -> dict[str, list[Path]]:
    """The backgrounds of each split, none of them in both, in an order drawn by the seed."""
    if not files:
        return {split: [] for split in SPLITS}
    if order.trainval and order.test and len(files) < 2:
        raise InputError(f"{backgrounds}: one image alone cannot be behind both splits; add one")
    rng = RandomState([order.seed % 2**32, order.seed >> 32])
    drawn = [files[i] for i in np.argsort(rng.random_sample(len(files)), kind="stable")]
    part = round(len(files) * order.trainval / (order.trainval + order.test))
    if order.trainval and order.test:
        part = min(max(part, 1), len(files) - 1)
    return {"trainval": drawn[:part], "test": drawn[part:]}


def _scenes(
    split: str, order: Order, files: list[Path]
) -> Iterator[tuple[str, np.ndarray, np.ndarray, list[Pasted], int]]:
    """Name, image, mask, targets, and the number of targets that were wanted."""
    count = order.trainval if split == "trainval" else order.test
    for index in tqdm(range(count), split, leave=False, delay=2, dynamic_ncols=True):
        rng = RandomState([order.seed % 2**32, order.seed >> 32, SPLITS.index(split), index])
        if files:
            background = _window(rng, files[index % len(files)], order.size)
        else:
            height, width = order.size or (256, 256)
            seed = int(rng.random_sample() * 2**32)
            background = make_scene(seed, height, width, n_targets=0).image
        least, most = order.targets
        wanted = least + int(rng.random_sample() * (most - least + 1))
        yield f"{split}_{index:06d}.png", *paste(rng, background, wanted, order.kind), wanted


def _window(rng: RandomState, path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """(H, W) uint8: the image, or a window of it."""
    levels = read_photo(path)
    grey = np.rint(255 * stretched(levels, "auto")).astype(np.uint8)
    if size is None:
        return grey
    if grey.shape[0] < size[0] or grey.shape[1] < size[1]:
        raise InputError(
            f"{path}: {grey.shape[1]}x{grey.shape[0]} px, less than a scene; a smaller --size, or "
            "none, takes it"
        )
    top, left = (
        int(rng.random_sample() * (a - b + 1)) for a, b in zip(grey.shape, size, strict=True)
    )
    return np.ascontiguousarray(grey[top : top + size[0], left : left + size[1]])


def _as_json(content: Any) -> Any:
    """Tuples as lists, as a file gives them back."""
    if isinstance(content, dict):
        return {k: _as_json(v) for k, v in content.items()}
    return [_as_json(v) for v in content] if isinstance(content, (list, tuple)) else content
