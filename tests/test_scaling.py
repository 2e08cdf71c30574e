"""docs/scaling.md's table is what the command makes now."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "scaling.py"


@pytest.fixture
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("scaling", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_row_of_the_table_is_what_is_counted_now(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "MODELS", {"Llama 8B": script.MODELS["Llama 8B"]})
    monkeypatch.setattr(script, "DEVICES", (8,))
    assert script.table(script.rows()) in script.PAGE.read_text("utf-8")


@pytest.mark.slow
def test_the_table_is_what_is_counted_now(script: ModuleType) -> None:
    assert script.page(script.rows()) == script.PAGE.read_text("utf-8")
