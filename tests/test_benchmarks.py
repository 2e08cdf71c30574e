"""Every benchmark runs and ends in figures as JSON."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from zoo import registry
from zoo.heads.retrieval import measures

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_the_last_line_is_json_with_a_ratio(path: Path, tmp_path: Path) -> None:
    short = ("--turns", "1", "--steps", "1")
    done = subprocess.run(
        [sys.executable, path, *short], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["benchmark"] == path.stem
    assert not list(tmp_path.iterdir())
    if "skipped" in figures:
        pytest.skip(figures["skipped"])
    assert figures["ratio"] > 0


@pytest.fixture
def learn(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(str(BENCHMARKS[0].parent))
    return importlib.import_module("learn")


@pytest.mark.parametrize("grades", [{3: 1}, {3: 1, 5: 2, 40: 1}, {40: 1}])
def test_a_search_is_judged_on_both_sides_alike(learn: ModuleType, grades: dict[int, int]) -> None:
    ranked = list(range(12))
    ours = measures([ranked], [grades])["ndcg_at_10"]
    assert learn.ndcg_at_10(ranked, grades) == pytest.approx(ours)


def test_a_ratio_above_one_says_that_the_zoo_learnt_more(learn: ModuleType) -> None:
    turns = [{"zoo": 0.9, "transformers": 0.8}, {"zoo": 0.8, "transformers": 0.8}]
    accuracy, loss = (
        learn.CASES[name] for name in ("finetune/bert-trec6", "pretrain/shakespeare-characters")
    )
    assert learn.ratio(accuracy, turns) == pytest.approx(0.85 / 0.8)
    assert learn.ratio(loss, turns) == pytest.approx(0.8 / 0.85)
    assert learn.ratio(loss, [{"zoo": 1.9, "transformers": None}]) is None


def test_each_case_is_a_recipe_that_the_zoo_packages(learn: ModuleType) -> None:
    for name in learn.CASES:
        registry.recipe_path(name)
