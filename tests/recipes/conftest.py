"""Small models and small data, in place of those on the Hub that recipes name."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import zoo
from zoo import registry
from zoo.cli import recipes
from zoo.tokenizer import train

SENTENCES = [
    "the cat sat on the mat", "a dog ran to the red sun", "quick brown foxes jump", "five lazy wizards vex",
    "is the mat red", "who ran to the sun", "the dog is lazy", "a cat jumps over the mat",
]  # fmt: skip
SHAPES = {"EncoderModule": "Bert", "DecoderModule": "Llama", "EncoderDecoderModule": "Transformer"}
NUM_ROWS = 40

Rows = Iterator[dict[str, Any]]


def labelled(head: dict[str, Any]) -> Rows:
    """Texts, or pairs for a number, with what the head tells."""
    labels = head.get("labels") or ["cat", "dog", "sun"]
    for number in range(NUM_ROWS):
        text, other = (SENTENCES[(number * step) % len(SENTENCES)] for step in (1, 3))
        if head.get("problem_type") == "regression":
            yield {"text_a": f"{text} {number}", "text_b": other, "score": number % 11 / 2}
        else:
            yield {"text": f"{text} {number}", "label": labels[number % len(labels)]}


WRITERS: dict[str, Callable[[dict[str, Any]], Rows]] = {"TextClassification": labelled}
"""What the rows of each kind of data are, given the head's arguments."""


def write_splits(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    for name in ("train", "dev"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def source_for(data: dict[str, Any], head: dict[str, Any], folder: Path) -> str:
    """A folder of small data as the recipe's data reads it."""
    rows = WRITERS[data["class_path"].rpartition(".")[2]](head.get("init_args", {}))
    path = write_splits(folder, list(rows))
    return str(path) if "validation" in data["init_args"] else f"{path}:train"


def small_model(module: str, folder: Path) -> Path:
    """A tiny backbone with a tokenizer, in the Hub's format."""
    family = SHAPES[module]
    (group,) = {entry.group for entry in registry.entries() if entry.attribute == family}
    spec = registry.attribute(group, family)
    sizes = {**spec.tiny, "max_position_embeddings": 512, "pad_token_id": 0}
    model = getattr(zoo.modules, module)(spec(**sizes), heads={})
    model.build()
    model.adopt_tokenizer(train("wordpiece", [*SENTENCES, "vexing judges 0123456789"], 96))
    return zoo.save(model, folder)


@pytest.fixture
def localised(tmp_path: Path) -> Callable[[str], list[str]]:
    """Flags with which a recipe trains a small model on small data."""

    def localised(name: str) -> list[str]:
        values = recipes.read(registry.recipe_path(name)).values
        model, data = values["model"], values["data"]
        backbone = small_model(model["class_path"].rpartition(".")[2], tmp_path / "model")
        flags = ["--config", "presets/cpu", "--model.backbone", str(backbone)]
        if data["class_path"] != "zoo.data.Mixture":
            head = model["init_args"].get("head", {})
            return [*flags, "--data.source", source_for(data, head, tmp_path / "data")]
        parts, heads = data["init_args"]["parts"], model["init_args"]["heads"]
        for part, inner in parts.items():
            inner["init_args"]["source"] = source_for(inner, heads[part], tmp_path / part)
        layer = tmp_path / "parts.yaml"
        layer.write_text(yaml.safe_dump({"data": {"init_args": {"parts": parts}}}))
        return ["--config", str(layer), *flags]

    return localised
