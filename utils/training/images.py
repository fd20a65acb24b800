"""Which images a run learns from, and what it does to each."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..data.cache import CachedPairs
from ..data.check import near_any
from ..data.dataset import JoinedPairs, PairDataset
from ..data.manifest import data_sha256
from ..data.sampling import hold_out
from ..data.transforms import Jitter, Joint, Resize, Shift, TargetCrop, Transform, orientations
from ..options import InputError
from .distributed import TrainingGroup
from .recipes import Recipe
from .runtime import Runtime


class Images(NamedTuple):
    """Which images a run learns from, which choose its best epoch, and which it is scored on."""

    samples: PairDataset
    training: list[int]  # of samples
    others: list[int]  # of samples, those of further data sets to train on
    left_out: list[str]  # images of these that are nearly ones of validation or test
    chosen_on: PairDataset
    validation: list[int]  # of chosen_on; none: the last epoch counts
    test: PairDataset | None
    sha256: dict[str, str]  # entries of config.json: of all that the run learns from


def select_images(
    recipe: Recipe,
    dataset: Path,
    others: Sequence[Path],
    runtime: Runtime,
    group: TrainingGroup,
) -> Images:
    """The images of a data set, checked, and decoded where the runtime has a cache.

    Those of further ones are for training alone; what is nearly an image of validation or test is
    left out of them.

    Raises:
        InputError: a bad data set, or one without a target where the run needs one.
    """
    samples = PairDataset(dataset / "trainval", recipe.range)
    test = PairDataset(dataset / "test", recipe.range) if (dataset / "test").is_dir() else None
    sha256 = {"data_sha256": data_sha256(samples.pairs)}
    if test and (recipe.selection == "test" or others):  # else it may come later
        sha256["test_sha256"] = data_sha256(test.pairs)
    elif others:  # what is trained on depends on it
        sha256["test_sha256"] = "none"
    if runtime.cache:
        with group.leader_first():
            samples = CachedPairs(samples, runtime.cache / "trainval.bin", sha256["data_sha256"])
            if test and "test_sha256" in sha256:
                test = CachedPairs(test, runtime.cache / "test.bin", sha256["test_sha256"])
    areas = samples.check()
    test_areas = test.check() if test else []
    training, validation = list(range(len(samples))), list[int]()
    chosen_on, chosen_areas = samples, areas
    if recipe.selection == "test":
        if test is None:
            raise InputError(f"{dataset / 'test'}: no such folder; --selection test chooses on it")
        chosen_on, chosen_areas = test, test_areas
        validation = list(range(len(test)))
    elif recipe.selection == "validation":
        training, validation = hold_out(len(samples), recipe.val_fraction, recipe.seed)
    if not any(areas[i] for i in training):
        raise InputError(f"{dataset / 'trainval' / 'masks'}: every mask to train on is empty")
    if validation and not any(chosen_areas[i] for i in validation):
        raise InputError(
            f"{dataset}: no target in the {len(validation)} masks that choose the best epoch; "
            "another --seed or --val-fraction holds out others"
        )
    kept_out = [(chosen_on, i) for i in validation]
    if test and recipe.selection != "test":
        kept_out += [(test, i) for i in range(len(test))]
    parts, further, left_out = [samples], list[int](), list[str]()
    for other in others:
        part = PairDataset(other / "trainval", recipe.range)
        key = sha256[f"data_sha256 of {other.name}"] = data_sha256(part.pairs)
        if runtime.cache:
            with group.leader_first():
                part = CachedPairs(part, runtime.cache / f"{other.name}-trainval.bin", key)
        part.check()
        start = sum(map(len, parts))
        for i, near in enumerate(near_any(part, kept_out)):
            if near:
                left_out.append(f"{other.name}/{part.pairs[i].name}")
            else:
                further.append(start + i)
        parts.append(part)
    if others:
        samples = JoinedPairs(parts)
        if not further:
            raise InputError(
                f"--also {recipe.also}: every image is nearly one that {dataset.name} keeps for "
                "validation or test; leave it out"
            )
    return Images(samples, training, further, left_out, chosen_on, validation, test, sha256)


def training_transform(recipe: Recipe) -> Transform:
    """What a recipe does to each image and mask that it trains on."""
    steps: list[Transform]
    if size := recipe.resized_to:
        steps = [Shift(recipe.shift, size)] if recipe.shift else []
        steps.append(Resize(size))
    else:
        steps = [TargetCrop(recipe.crop_size, recipe.target_share, recipe.zoom)]
    if recipe.augment:
        steps += orientations()
    if recipe.jitter:
        steps.append(Jitter(recipe.jitter))
    return Joint(*steps)


def sized(samples: PairDataset, index: int, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Image and mask as the network is to see them in validation and test."""
    image, mask, _ = samples[index]
    size = recipe.resized_to
    return Resize(size)(image, mask) if size else (image, mask)
