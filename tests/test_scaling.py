"""docs/scaling.md's table is what the command makes now."""

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def script(page_script: Callable[[str], ModuleType]) -> ModuleType:
    return page_script("scaling")


def test_a_row_of_the_table_is_what_is_counted_now(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "MODELS", {"Llama 8B": script.MODELS["Llama 8B"]})
    monkeypatch.setattr(script, "DEVICES", (8,))
    assert script.table(script.rows()) in script.PAGE.read_text("utf-8")


@pytest.mark.slow
def test_the_table_is_what_is_counted_now(script: ModuleType) -> None:
    assert script.page(script.rows()) == script.PAGE.read_text("utf-8")
