"""Flags as keys of a recipe, with a place."""

from pathlib import Path

from zoo.cli import flags, recipes
from zoo.cli.recipes import Recipe


def flagged(text: str, *arguments: str) -> Recipe:
    return flags.with_flags(recipes.parse(text, Path("r.yaml")), list(arguments))


def test_flags_are_laid_over_the_recipe_through_init_args() -> None:
    text = "model:\n  class_path: M\n  init_args:\n    head: {class_path: H, init_args: {x: 1}}\n"
    recipe = flagged(text, "--model.head.x", "2", "--model.head.init_args.y=3", "--trainer.fast", "--c", "d")
    head = recipe.values["model"]["init_args"]["head"]
    assert head == {"class_path": "H", "init_args": {"x": 2, "y": 3}}
    assert recipe.values["trainer"] == {"fast": True}
    assert recipes.place_of(recipe, "model.head.x") == "the command line: --model.head.x"
    assert recipes.place_of(recipe, "model.head") == "r.yaml:4"
    assert recipes.place_of(recipe, "trainer") == "the command line: --trainer.fast"
    assert recipes.place_of(recipe, "nothing") is None


def test_a_flag_with_another_class_drops_the_arguments_before() -> None:
    text = "model: {class_path: M, init_args: {x: 1}}\n"
    assert flagged(text, "--model", "a.N", "--model.y", "2").values["model"] == {
        "class_path": "a.N",
        "init_args": {"y": 2},
    }
    assert flagged(text, "--model", "M").values["model"] == {"class_path": "M", "init_args": {"x": 1}}


def test_values_of_flags_are_read_as_yaml() -> None:
    values = flagged("a: 1", "--n", "1e-3", "--l=[1, x]", "--t", "plain: text: ", "--m", "-1").values
    assert values == {"a": 1, "n": 1e-3, "l": [1, "x"], "t": "plain: text: ", "m": -1}
