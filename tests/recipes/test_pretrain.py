"""The recipes that train a model from scratch, on small texts in place of the Hub's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo import registry
from zoo.cli import recipes

from .conftest import SENTENCES

RECIPES = sorted(name for name in registry.recipes() if name.startswith("pretrain/"))
LONGEST = 40
"""Lines of a recipe."""


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_takes_two_steps_on_texts_of_ones_own(
    name: str, command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    data = recipes.read(registry.recipe_path(name)).values["data"]
    is_of_pairs = data["class_path"] == "zoo.data.TextPairs"
    pairs = "\n".join(json.dumps({"en": text, "de": text[::-1]}) for text in SENTENCES * 4)
    for part in ("train", "dev"):
        path = tmp_path / "texts" / f"{part}.{'jsonl' if is_of_pairs else 'txt'}"
        path.write_text(pairs if is_of_pairs else ". ".join(SENTENCES * 40))
    source = ("--data.source", "texts")
    if not data["init_args"].get("validation"):
        source = ("--data.source", "texts:train", "--data.validation", "texts:dev")
    length = "max_length" if is_of_pairs else "sequence_length"
    small = (f"--data.{length}", "32", "--data.batch_size", "2", "--trainer.precision", "32-true")
    layers = ("--model.backbone.num_hidden_layers", "1")
    two = ("--trainer.max_steps", "2", "--trainer.limit_val_batches", "1")
    done = command("fit", "--config", name, "--config", "presets/cpu", *source, *small, *layers, *two)
    assert done.code == 0, done.err
    assert list(tmp_path.rglob("last.ckpt"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_holds_only_what_differs_from_defaults(name: str) -> None:
    assert len(registry.recipe_path(name).read_text().splitlines()) < LONGEST
