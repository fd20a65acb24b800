import argparse

from utils.options import Parser
from utils.training.recipes import Recipe, add_options, given_options, recipe_for


def parse(*arguments):
    parser = Parser("A test.")
    add_options(parser)
    return parser, given_options(parser.parse_args(arguments))


def test_the_recipe_of_the_paper():
    recipe = recipe_for("NUDT-SIRST")
    assert recipe == Recipe() == recipe_for("IRSTD-1k") == recipe_for("anything")
    assert (recipe.stages, recipe.image_size, recipe.epochs, recipe.batch_size) == (5, 256, 400, 8)
    assert (recipe.lr, recipe.tau, recipe.augment) == (1e-4, 0.1, False)
    assert recipe_for("sirst_aug").augment


def test_only_what_is_given_counts():
    assert parse()[1] == {}
    given = parse("--lr", "0.01", "--augment", "--crop-size", "96")[1]
    assert given == {"lr": 0.01, "augment": True, "crop_size": 96}
    assert parse("--no-augment")[1] == {"augment": False}


def test_help_shows_every_default():
    text = " ".join(parse()[0].format_help().split())
    for name, value in vars(Recipe()).items():
        assert f"--{name.replace('_', '-')}" in text
        assert f"(default {value}" in text, name
    assert isinstance(parse()[0], argparse.ArgumentParser)
