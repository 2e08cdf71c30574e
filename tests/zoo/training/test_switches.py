"""Speed by one line of a recipe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def test_muon_and_checkpointing_are_lines_of_a_recipe(workplace: Path, command: Callable[..., Any]) -> None:
    recipe = (workplace / "recipe.yaml").read_text()
    adamw = "    optimizer: {class_path: torch.optim.AdamW,"
    lines = "    activation_checkpointing: selective\n    optimizer: {class_path: zoo.training.Muon,"
    assert adamw in recipe
    (workplace / "recipe.yaml").write_text(recipe.replace(adamw, lines))
    done = command("fit", "--config", "recipe.yaml", "--trainer.max_steps=3")
    assert done.code == 0, done.err
    (path,) = workplace.rglob("last.ckpt")
    saved = torch.load(path, weights_only=True)
    assert saved["hyper_parameters"]["optimizer"]["class_path"] == "zoo.training.muon.Muon"
    more = ("--trainer.max_steps=5", "--ckpt_path", str(path))
    done = command("fit", "--config", "recipe.yaml", *more)
    assert done.code == 0, done.err
