"""docs/recipes.md's table is what the recipes say."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "docs" / "recipes.py"


def test_the_table_is_what_the_recipes_say_now() -> None:
    found = importlib.util.spec_from_file_location("recipes_page", SCRIPT)
    assert found is not None
    assert found.loader is not None
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    assert script.page() == script.PAGE.read_text("utf-8"), "run: python docs/recipes.py"
