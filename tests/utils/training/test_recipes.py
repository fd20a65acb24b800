from dataclasses import asdict
from pathlib import Path

import pytest

from utils.options import InputError, Parser
from utils.training.recipes import (
    AUTO,
    RECIPES,
    Recipe,
    add_options,
    begins_with,
    given_options,
    recipe_for,
    recipe_from,
    recipe_name,
)


def parse(*arguments):
    parser = Parser("A test.")
    add_options(parser)
    return parser, given_options(parser.parse_args(arguments))


def test_the_recipe_of_the_paper():
    recipe = recipe_for("published", "NUDT-SIRST")
    assert recipe == Recipe() == recipe_for("published", "anything")
    assert (recipe.stages, recipe.width, recipe.image_size, recipe.crop_size) == (5, 16, 256, 0)
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.tau) == (400, 8, 1e-4, 0.1)
    assert (recipe.loss, recipe.every_stage, recipe.selection) == ("soft_iou", False, "test")
    assert not (recipe.augment or recipe.jitter or recipe.ema or recipe.warmup or recipe.clip_norm)
    for spelling in ("sirst_aug", "SIRST-aug", "sirstaug"):
        assert recipe_for("published", spelling).augment


def test_our_recipe_and_that_of_the_built_in_data():
    ours = recipe_for("default", "sirst_aug")
    assert ours == RECIPES["default"]
    assert ours.crop_size == 256 and ours.ema and ours.every_stage and ours.jitter and ours.warmup
    assert ours.selection == RECIPES["demo"].selection == "validation"
    assert recipe_name("builtin") == "demo" and recipe_name("NUDT-SIRST") == "default"


@pytest.mark.parametrize(("name", "stages"), [("SIRST", 3), ("irstd1k", 2), ("nudt", 3)])
def test_sets_with_shipped_weights_have_the_recipe_of_these(name, stages):
    recipe = recipe_for("default", name)
    assert recipe.stages == stages and recipe.loss == "soft_iou_pooled"
    assert recipe.selection == "validation"
    assert recipe_for("published", name) == Recipe()


def test_a_recipe_may_begin_with_the_weights_of_another_set():
    assert begins_with("default", "sirst") == "NUDT-SIRST"
    assert begins_with("published", "SIRST") is begins_with("default", "NUDT-SIRST") is None


def test_a_run_from_before_ranges_were_a_choice(tmp_path):
    values = asdict(RECIPES["published"])
    assert values.pop("range") == "full"
    assert recipe_from(values, tmp_path) == RECIPES["published"]


def test_a_run_from_before_there_was_one_schedule_only(tmp_path):
    values = asdict(RECIPES["default"])
    assert recipe_from(values | {"restart": 0}, tmp_path) == RECIPES["default"]
    with pytest.raises(InputError, match="begin a new run"):
        recipe_from(values | {"restart": 60}, tmp_path)


def test_only_what_is_given_counts():
    assert parse()[1] == {}
    given = parse("--lr", "0.01", "--augment", "--crop-size", "96", "--batch-size", "auto")[1]
    assert given == {"lr": 0.01, "augment": True, "crop_size": 96, "batch_size": AUTO}
    assert parse("--no-augment")[1] == {"augment": False}
    assert recipe_for("default", "x", given).lr == 0.01


@pytest.mark.parametrize(
    "recipe, given, message",
    [
        ("default", {"image_size": 128}, "--image-size has no effect here without --crop-size 0"),
        ("default", {"shift": 8}, "--shift has no effect here without --crop-size 0"),
        ("published", {"zoom": 0.1}, "--zoom has no effect .* a --crop-size"),
        ("published", {"target_share": 0.1}, "--target-share has no effect .* a --crop-size"),
        ("published", {"val_fraction": 0.2}, "without --selection validation"),
        ("default", {"selection": "last", "val_fraction": 0.2}, "without --selection validation"),
        ("default", {"selection": "last", "patience": 2}, "--patience has no effect"),
    ],
)
def test_an_option_that_would_not_be_read_is_refused(recipe, given, message):
    with pytest.raises(InputError, match=message):
        recipe_for(recipe, "x", given)


def test_senseless_values():
    for options in (["--loss", "l2"], ["--ema", "2"], ["--recipe", "x"], ["--batch-size", "0"]):
        with pytest.raises(InputError):
            parse(*options)


def test_help_shows_every_default():
    text = " ".join(parse()[0].format_help().split())
    for name in vars(Recipe()):
        assert f"--{name.replace('_', '-')}" in text
    assert "(default 0.0005; published 0.0001; demo 0.002; default of SIRST 0.0008;" in text
    assert "held out for validation (default 0.1)" in text


def test_further_data_sets():
    assert Recipe().others == [] == Recipe(also=parse("--also", "none")[1]["also"]).others
    given = parse("--also", "IRSTD-1k, NUDT-SIRST")[1]
    assert recipe_for("default", "x", given).others == ["IRSTD-1k", "NUDT-SIRST"]
    for text in (" ", "a,,b"):
        with pytest.raises(InputError, match="names of data sets, comma-separated, or none"):
            parse("--also", text)


def test_a_recipe_is_read_back():
    assert recipe_from(asdict(RECIPES["demo"]), Path("x")) == RECIPES["demo"]
    for values in (None, {}, asdict(Recipe()) | {"more": 1}):
        with pytest.raises(
            InputError, match=r"config\.json: .* not one of this version; begin a new"
        ):
            recipe_from(values, Path("config.json"))
    for name, value in (
        ("epochs", "3"),
        ("epochs", 0),
        ("stages", True),
        ("lr", "1e-3"),
        ("lr", -1.0),
        ("augment", 1),
        ("loss", "foo"),
        ("loss", [1]),
        ("also", 5),
    ):
        with pytest.raises(InputError, match=f"config\\.json: {name} is .*, which no recipe has"):
            recipe_from(asdict(Recipe()) | {name: value}, Path("config.json"))
