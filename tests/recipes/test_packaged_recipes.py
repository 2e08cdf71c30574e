"""Every packaged recipe, found recursively, holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import zoo.cli.training  # noqa: F401 - logging binds stderr at its import, which no test may capture
from zoo import registry

RECIPES = registry.recipes()
FOLDER = Path(__file__).parents[2] / "recipes" / "zoo_recipes"


def test_every_file_of_the_recipes_folder_is_a_packaged_recipe() -> None:
    files = {path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.y*ml")}
    assert files
    folders = {name.partition("/")[0] for name in files}  # the recipes may be an installed wheel's
    assert files == {name for name in RECIPES if name.partition("/")[0] in folders}


@pytest.mark.parametrize("name", RECIPES)
def test_a_packaged_recipe_holds(
    name: str, command: Callable[..., Any], workplace: Path, localised: Callable[[str], list[str]]
) -> None:
    flags = (
        localised(name) if name.startswith(("finetune/", "chat/")) else []
    )  # they name what lies on the Hub
    if name.startswith("presets/"):  # a fragment: it holds with what it is made for
        settings = yaml.safe_load(RECIPES[name].read_text())
        assert settings.keys() <= {"base", "trainer"}
        (workplace / "whole.yaml").write_text(f"base: [recipe.yaml, {name}]\n")
        name = "whole.yaml"
    before = sorted(workplace.rglob("*"))
    outcome = command("check", name, *flags)
    assert (outcome.code, outcome.err) == (0, "")
    assert "The recipe holds." in outcome.out
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize("name", RECIPES)
def test_a_packaged_recipe_says_what_it_is_first(name: str) -> None:
    assert RECIPES[name].read_text().startswith("# ")
