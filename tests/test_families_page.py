"""docs/families.md's table is what the files say now."""

from collections.abc import Callable
from types import ModuleType


def test_the_table_is_what_is_counted_now(page_script: Callable[[str], ModuleType]) -> None:
    script = page_script("families")
    remedy = "docs/families.md is stale: run python docs/families.py"
    assert script.page(script.rows()) == script.PAGE.read_text("utf-8"), remedy
