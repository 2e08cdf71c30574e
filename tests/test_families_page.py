"""The tables of families in docs/ are what the files say now."""

import json
from collections.abc import Callable
from types import ModuleType


def test_the_table_is_what_is_counted_now(page_script: Callable[[str], ModuleType]) -> None:
    script = page_script("families")
    remedy = "docs/families.md is stale: run python docs/families.py"
    assert script.page(script.rows()) == script.PAGE.read_text("utf-8"), remedy


def test_the_table_of_speed_is_what_was_measured_last(page_script: Callable[[str], ModuleType]) -> None:
    script = page_script("performance")
    remedy = "docs/performance.md is stale: run python docs/performance.py"
    assert script.page(script.rows()) == script.PAGE.read_text("utf-8"), remedy


def test_every_family_that_transformers_has_was_measured(page_script: Callable[[str], ModuleType]) -> None:
    lines = page_script("families").LEDGER.read_text("utf-8").splitlines()
    compared = {line.split(" | ")[0].strip("| ") for line in lines if "| transformers " in line}
    measured = json.loads(page_script("performance").MEASURED.read_text("utf-8"))
    assert measured.keys() == compared, "run python benchmarks/families.py --keep"
