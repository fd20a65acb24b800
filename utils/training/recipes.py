"""Every default of training, as data."""

import argparse
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..data.catalogue import BUILTIN
from ..options import Parser, fraction, non_negative, positive, positive_float, share


def _value(default: Any, parse: Any, text: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": text})


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are those of the paper."""

    stages: int = _value(5, positive, "K, the stages of the network")
    width: int = _value(16, positive, "channels of its first layer; all others follow")
    image_size: int = _value(256, positive, "side in px to which images are resized")
    crop_size: int = _value(
        0, non_negative, "train on random windows of this side instead of resized images; 0: do not"
    )
    target_share: float = _value(
        0.5, share, "part of the windows drawn around a target, where the image has one"
    )
    augment: bool = _value(False, bool, "random flips and transposes")
    epochs: int = _value(400, positive, "passes over the training images")
    batch_size: int = _value(8, positive, "images a step")
    lr: float = _value(1e-4, positive_float, "learning rate at the start")
    tau: float = _value(0.1, positive_float, "weight of the reconstruction loss")
    val_fraction: float = _value(
        0.1, fraction, "part of trainval held out to choose the best epoch"
    )
    val_every: int = _value(1, positive, "epochs from one validation to the next")
    seed: int = _value(0, non_negative, "seed of start values, split, order and augmentation")


_DEFAULT = Recipe()
_OF_DATASET = {
    "sirst_aug": replace(_DEFAULT, augment=True),
    # sized for two CPU cores and five minutes
    BUILTIN: replace(
        _DEFAULT,
        stages=2,
        width=8,
        crop_size=64,
        target_share=1.0,
        augment=True,
        epochs=20,
        lr=2e-3,
        val_every=4,
    ),
}


def recipe_for(dataset: str) -> Recipe:
    """The recipe of a data set, by the name of its folder."""
    return _OF_DATASET.get(dataset, _DEFAULT)


def add_options(parser: Parser) -> None:
    """One option for each value of a recipe."""
    for f in fields(Recipe):
        default = getattr(_DEFAULT, f.name)
        others = [
            f"{dataset}: {getattr(recipe, f.name)}"
            for dataset, recipe in _OF_DATASET.items()
            if getattr(recipe, f.name) != default
        ]
        kind = (
            {"action": argparse.BooleanOptionalAction}
            if f.metadata["parse"] is bool
            else {"type": f.metadata["parse"], "metavar": "N"}
        )
        text = f"{f.metadata['help']} (default {'; '.join([str(default), *others])})"
        parser.add_argument(f"--{f.name.replace('_', '-')}", default=None, help=text, **kind)


def given_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of a recipe that the command line names."""
    values = {f.name: getattr(arguments, f.name) for f in fields(Recipe)}
    return {name: value for name, value in values.items() if value is not None}
