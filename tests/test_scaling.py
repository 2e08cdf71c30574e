"""docs/scaling.md's table is what the command makes now."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "scaling.py"


@pytest.fixture
def benchmark() -> ModuleType:
    found = importlib.util.spec_from_file_location("scaling", BENCHMARK)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_row_of_the_table_is_what_is_counted_now(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "MODELS", {"Llama 8B": benchmark.MODELS["Llama 8B"]})
    monkeypatch.setattr(benchmark, "DEVICES", (8,))
    assert benchmark.table(benchmark.rows()) in benchmark.PAGE.read_text("utf-8")


@pytest.mark.slow
def test_the_table_is_what_is_counted_now(benchmark: ModuleType) -> None:
    assert benchmark.page(benchmark.rows()) == benchmark.PAGE.read_text("utf-8")
