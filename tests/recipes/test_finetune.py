"""The recipes that train a published model on a task, with a small model and small data in its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo import registry

RECIPES = sorted(name for name in registry.recipes() if name.startswith(("finetune/", "chat/")))
LONGEST = 40
"""Lines of a recipe."""

Localised = Callable[[str], list[str]]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_takes_two_steps_on_data_of_ones_own(
    name: str,
    command: Callable[..., Any],
    localised: Localised,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = localised(name)
    two = ("--trainer.max_steps", "2", "--trainer.limit_val_batches", "1", "--data.batch_size", "4")
    if "--data.source" not in flags:
        two = two[:-2]
    done = command("fit", "--config", name, *flags, *two, "--trainer.enable_progress_bar", "false")
    assert done.code == 0, done.err
    assert list(tmp_path.rglob("last.ckpt"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_holds_only_what_differs_from_defaults(name: str) -> None:
    assert len(registry.recipe_path(name).read_text().splitlines()) < LONGEST
