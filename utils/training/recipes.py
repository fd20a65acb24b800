"""Every default of training, as data."""

import argparse
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from model.ablation import LEAVE_OUT

from ..data.catalogue import BUILTIN, same_name
from ..data.ranges import RANGES
from ..options import (
    InputError,
    Parser,
    fraction,
    non_negative,
    non_negative_float,
    positive,
    positive_float,
    share,
    side,
    side_or_0,
)
from .losses import LOSSES

AUTO = 0  # a batch size: as many images as the GPU holds


def batch_size(text: str) -> int:
    """``auto``, or an integer of at least 1."""
    return AUTO if text == "auto" else positive(text)


def data_sets(text: str) -> str:
    """``none``, or names of data sets, comma-separated."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: names of data sets, comma-separated, or none")
    return ",".join(names)


def _value(default: Any, parse: Any, text: str) -> Any:
    """``parse`` is a type of an option, a tuple of choices, or bool."""
    return field(default=default, metadata={"parse": parse, "help": text})


@dataclass(frozen=True)
class Recipe:
    """How to train; the values here are those of the paper."""

    stages: int = _value(5, positive, "K, the stages of the network")
    width: int = _value(16, positive, "channels of its first layer; all others follow")
    without: str = _value(
        "nothing", tuple(LEAVE_OUT), "part of the network that is left out, for an ablation"
    )
    also: str = _value(
        "none",
        data_sets,
        "further data sets, comma-separated: an epoch shows as many images of their trainval, "
        "drawn at random, as of the data set's own",
    )
    range: str = _value(
        "full", RANGES, "grey levels of deep images that become 0 and 1, see t_models.py --help"
    )
    image_size: int = _value(256, side, "side in px to which images are resized")
    shift: int = _value(
        0, side_or_0, "move resized images at random by up to N px, mirrored beyond their edges"
    )
    crop_size: int = _value(
        0, side_or_0, "train on random windows of this side instead of resized images; 0: do not"
    )
    target_share: float = _value(
        0.5, share, "part of the windows drawn around a target, where the image has one"
    )
    zoom: float = _value(
        0.0, share, "windows enlarged or reduced at random, by a factor of up to 1 + N; 0: not"
    )
    augment: bool = _value(False, bool, "random flips and 90 degree turns")
    jitter: float = _value(0.0, share, "strength of random gain, offset and noise; 0: none")
    epochs: int = _value(400, positive, "passes over the training images")
    batch_size: int = _value(8, batch_size, "images a step, of all GPUs together; or auto")
    lr: float = _value(1e-4, positive_float, "learning rate at its highest")
    warmup: int = _value(0, non_negative, "steps over which the learning rate rises to it")
    clip_norm: float = _value(
        0.0, non_negative_float, "largest norm of the gradient, scaled down to it; 0: any"
    )
    ema: float = _value(
        0.0, share, "decay of the moving average of the weights that is validated; 0: none"
    )
    loss: str = _value("soft_iou", tuple(LOSSES), "of the target maps")
    every_stage: bool = _value(
        False, bool, "loss on the target map of every stage k, weighted k / (1 + ... + K)"
    )
    tau: float = _value(0.1, positive_float, "weight of the reconstruction loss")
    selection: str = _value(
        "test",
        ("validation", "test", "last"),
        "what chooses the best epoch: images held out, or the test's; last: nothing, so all of "
        "trainval is trained on, and the last one counts",
    )
    val_fraction: float = _value(0.1, fraction, "part of trainval held out for validation")
    val_every: int = _value(1, positive, "epochs from one validation to the next")
    patience: int = _value(
        0, non_negative, "stop after so many validations without a better one; 0: never"
    )
    seed: int = _value(0, non_negative, "seed of start values, split, order and augmentation")

    @property
    def others(self) -> list[str]:
        """The further data sets that it trains on."""
        return [] if self.also == "none" else self.also.split(",")

    @property
    def side(self) -> int:
        """Of the images of a step, px."""
        return self.crop_size or self.image_size

    @property
    def resized_to(self) -> int | None:
        """The side of the images that it trains on; None: windows at native resolution."""
        return None if self.crop_size else self.image_size


_PUBLISHED = Recipe()
_DEFAULT = Recipe(
    range="auto",
    crop_size=256,
    augment=True,
    jitter=0.2,
    lr=5e-4,
    warmup=200,
    clip_norm=1.0,
    ema=0.999,
    every_stage=True,
    selection="validation",
)
RECIPES = {
    "default": _DEFAULT,
    "published": _PUBLISHED,
    # sized for two CPU cores and five minutes
    "demo": Recipe(
        stages=2,
        width=8,
        range="auto",
        crop_size=64,
        target_share=1.0,
        augment=True,
        epochs=20,
        lr=2e-3,
        selection="validation",
        val_every=4,
    ),
}
_SHORT = {  # of the weights in Weight/: minutes of a large GPU, or hours of two CPU cores
    "stages": 2,
    "jitter": 0.1,
    "lr": 1e-3,
    "ema": 0.998,
    "loss": "soft_iou_pooled",
}
_OF_DATASET = {
    ("published", "sirst_aug"): {"augment": True},
    ("default", "SIRST"): _SHORT
    | {"stages": 3, "zoom": 0.5, "epochs": 46, "lr": 8e-4, "warmup": 100}
    | {"ema": 0.999, "val_every": 4},
    ("default", "IRSTD-1k"): _SHORT | {"crop_size": 0, "epochs": 35, "val_every": 4},
    ("default", "NUDT-SIRST"): _SHORT
    | {"stages": 3, "jitter": 0.0, "epochs": 280, "val_every": 10},
}
# whose weights in Weight/ a recipe begins with, where none are named
BEGINS_WITH = {("default", "SIRST"): "NUDT-SIRST"}

_NEEDS = {  # an option: what must hold for it to be read
    "image_size": (lambda r: not r.crop_size, "--crop-size 0"),
    "shift": (lambda r: not r.crop_size, "--crop-size 0"),
    "target_share": (lambda r: r.crop_size, "a --crop-size"),
    "zoom": (lambda r: r.crop_size, "a --crop-size"),
    "val_fraction": (lambda r: r.selection == "validation", "--selection validation"),
    "patience": (lambda r: r.selection != "last", "--selection validation or test"),
}


def recipe_name(dataset: str) -> str:
    """The recipe that is meant where none is named."""
    return "demo" if dataset == BUILTIN else "default"


def recipe_for(name: str, dataset: str, given: dict[str, Any] | None = None) -> Recipe:
    """A recipe for a data set, with the values that the command line gives.

    Raises:
        InputError: a value that this recipe would not read.
    """
    given = given or {}
    recipe = replace(RECIPES[name], **(_entry(_OF_DATASET, name, dataset) or {}) | given)
    for option, (holds, need) in _NEEDS.items():
        if option in given and not holds(recipe):
            raise InputError(f"{_flag(option)} has no effect here without {need}")
    return recipe


def begins_with(name: str, dataset: str) -> str | None:
    """The data set whose weights in Weight/ a recipe begins with; None: random ones."""
    return _entry(BEGINS_WITH, name, dataset)


def add_options(parser: Parser) -> None:
    """``--recipe``, and an option for each of its values."""
    parser.add_argument(
        "--recipe",
        choices=list(RECIPES),
        metavar="NAME",
        help=f"values of all options below: {', '.join(RECIPES)} (default: default; demo for "
        "built-in data). published is the paper's, which chooses its best epoch on the test split",
    )
    for f in fields(Recipe):
        values = {name: _shown(f.name, getattr(recipe, f.name)) for name, recipe in RECIPES.items()}
        if len(set(values.values())) == 1:
            values = {"default": values["default"]}
        for (recipe, dataset), changes in _OF_DATASET.items():
            if f.name in changes:
                values[f"{recipe} of {dataset}"] = _shown(f.name, changes[f.name])
        shown = "; ".join(f"{name} {value}" for name, value in values.items())
        parse = f.metadata["parse"]
        if parse is bool:
            kind: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        elif isinstance(parse, tuple):
            kind = {"choices": parse, "metavar": "NAME"}
        else:
            kind = {"type": parse, "metavar": "NAMES" if parse is data_sets else "N"}
        choices = f" ({', '.join(parse)})" if isinstance(parse, tuple) else ""
        text = f"{f.metadata['help']}{choices} ({shown})"
        parser.add_argument(_flag(f.name), default=None, help=text, **kind)


def given_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of a recipe that the command line names."""
    values = {f.name: getattr(arguments, f.name) for f in fields(Recipe)}
    return {name: value for name, value in values.items() if value is not None}


def recipe_from(values: Any, file: Path) -> Recipe:
    """The recipe of a configuration file.

    Raises:
        InputError: these are not the values of a recipe.
    """
    names = {f.name for f in fields(Recipe)}
    if isinstance(values, dict):
        # older ones do not name what they did
        values = {
            "range": "full",
            "zoom": 0.0,
            "shift": 0,
            "without": "nothing",
            "also": "none",
        } | values
        if values.get("restart") == 0:  # of a second schedule, which there was; they had none
            values.pop("restart")
    if not isinstance(values, dict) or values.keys() != names:
        raise InputError(f"{file}: its recipe is not one of this version; begin a new run")
    for f in fields(Recipe):
        if not _is_of(f, values[f.name]):
            raise InputError(f"{file}: {f.name} is {values[f.name]!r}, which no recipe has")
    return Recipe(**values)


def _is_of(option: Field, value: Any) -> bool:
    """Whether an option can have the value."""
    parse, kind = option.metadata["parse"], type(option.default)
    if isinstance(parse, tuple):
        return value in parse
    if type(value) is not kind and not (kind is float and type(value) is int):
        return False
    try:
        return parse is bool or parse(str(value)) == value
    except argparse.ArgumentTypeError:
        return False


def _entry(table: dict[tuple[str, str], Any], name: str, dataset: str) -> Any:
    """What a table says of a recipe for a data set, in any spelling; None: nothing."""
    found = (x for (recipe, of), x in table.items() if recipe == name and same_name(of, dataset))
    return next(found, None)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(name: str, value: Any) -> str:
    return "auto" if name == "batch_size" and value == AUTO else str(value)
