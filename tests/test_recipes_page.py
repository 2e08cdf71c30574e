"""docs/recipes.md's table is what the recipes say."""

from collections.abc import Callable
from types import ModuleType


def test_the_table_is_what_the_recipes_say_now(page_script: Callable[[str], ModuleType]) -> None:
    script = page_script("recipes")
    assert script.page() == script.PAGE.read_text("utf-8"), "run: python docs/recipes.py"
