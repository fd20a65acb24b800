"""What a run is to do: read from a run folder, or made of what the command line says."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from model import MSCoNet

from .. import checkpoint
from ..data.catalogue import DATA_ROOT, choose_dataset, recorded_root
from ..files import write_errors
from ..options import InputError
from .recipes import Recipe, begins_with, recipe_for, recipe_from, recipe_name
from .record import read_config

RANDOM = Path("random")  # as weights to begin with


class Plan(NamedTuple):
    run: Path | None  # its folder; None: a new one is to be made
    dataset: Path
    others: list[Path]  # further data sets to train on
    recipe: Recipe
    recipe_name: str
    origin: dict[str, Any]  # see `train`
    start: MSCoNet | None  # weights to begin with
    resume: bool


def new_plan(
    dataset: str | None,
    data_root: Path | None,
    name: str | None,
    given: dict[str, Any],
    weights: Path | None,
    output: Path | None,
) -> Plan:
    """A new run.

    Args:
        dataset: a name; None: the first that is there, else the built-in one.
        data_root: where the data sets are; None: the usual place.
        name: of a recipe; None: that of the data set.
        given: values that replace the recipe's.
        weights: to begin with, or `RANDOM`; the network is theirs. None: what the recipe names.
        output: the folder of the run, if it is named.

    Raises:
        InputError: no such data set, bad weights, values that do not fit, a folder that is there.
    """
    start = checkpoint.load(weights) if weights and weights != RANDOM else None
    found = choose_dataset(dataset, data_root or DATA_ROOT, to_train=True)
    name = name or recipe_name(found.name)
    recipe = recipe_for(name, found.name, given)
    other = None if weights else begins_with(name, found.name)
    if other:
        weights = checkpoint.WEIGHTS / other / "best.pkl"
        if not weights.is_file():
            raise InputError(
                f"{weights}: no such file, with which the recipe begins; start in the project's "
                f"folder, or begin with --weights FILE or {RANDOM}"
            )
        start = checkpoint.load(weights)
    sources = {
        f.name: "command line" if f.name in given else f"recipe {name}" for f in fields(Recipe)
    }
    origin: dict[str, Any] = {"recipe_name": name, "origin": sources}
    if start:
        for option, value in start.net.config.items():
            if given.get(option, value) != value:
                instead = f", or begin with --weights {RANDOM}" if other else ""
                raise InputError(
                    f"{weights}: trained with --{option} {value}; leave out --{option}{instead}"
                )
            sources[option] = "weights"
        recipe = replace(recipe, **start.net.config)
        origin["begun_with"] = {"sha256": start.sha256} | {
            key: start.info[key] for key in ("dataset", "epoch") if key in start.info
        }
    if output:
        with write_errors(output):
            if output.exists() and (not output.is_dir() or any(output.iterdir())):
                raise InputError(
                    f"{output}: exists already; name a new folder, or go on with a run by --resume"
                )
    others = _others(recipe, found)
    net = start.net if start else None
    return Plan(output, found, others, recipe, name, origin, net, resume=False)


def resumed_plan(run: Path, data_root: Path | None) -> Plan:
    """The rest of a run.

    Args:
        run: its folder.
        data_root: where its data set is now; None: where it was.

    Raises:
        InputError: no run, or one that has nothing to go on from.
    """
    config = read_config(run)
    if "begun_with" in config and not (run / "last.pkl").exists():
        raise InputError(f"{run}: stopped before it had saved anything; begin it again")
    dataset = choose_dataset(config["dataset"], data_root or recorded_root(config["data_root"]))
    recipe = recipe_from(config.get("recipe"), run / "config.json")
    origin = {k: config[k] for k in ("recipe_name", "origin", "begun_with") if k in config}
    others, name = _others(recipe, dataset), config.get("recipe_name", "")
    return Plan(run, dataset, others, recipe, name, origin, None, resume=True)


def _others(recipe: Recipe, dataset: Path) -> list[Path]:
    """The further data sets of a recipe, which lie beside the data set.

    Raises:
        InputError: there is none of a name, or one is named twice.
    """
    found = [dataset]
    for name in recipe.others:
        try:
            other = choose_dataset(name, dataset.parent, to_train=True)
        except InputError as error:
            raise InputError(f"--also {name}: {error}; --also none does without") from None
        if other in found:
            raise InputError(f"--also {name}: {other} is trained on already; name it once")
        found.append(other)
    return found[1:]
