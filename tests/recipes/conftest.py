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
from zoo.data.base import TokenizerKind
from zoo.testing.families import module_of
from zoo.tokenizer import train

SENTENCES = [
    "the cat sat on the mat", "a dog ran to the red sun", "quick brown foxes jump", "five lazy wizards vex",
    "is the mat red", "who ran to the sun", "the dog is lazy", "a cat jumps over the mat",
]  # fmt: skip
SHAPES = {
    "EncoderModule": "Bert",
    "DecoderModule": "Llama",
    "PreferenceModule": "Llama",
    "EncoderDecoderModule": "Transformer",
}
KINDS: dict[str, TokenizerKind] = {"Bert": "wordpiece", "Llama": "bpe", "Transformer": "unigram"}
"""What their tokenizers are; what writes needs an end of text."""
NUM_ROWS = 40

Rows = Iterator[dict[str, Any]]


def labelled(head: dict[str, Any], data: dict[str, Any]) -> Rows:
    """Texts, or pairs for a number, with what the head tells."""
    labels = head.get("labels") or ["cat", "dog", "sun"]
    for number in range(NUM_ROWS):
        text, other = (SENTENCES[(number * step) % len(SENTENCES)] for step in (1, 3))
        if head.get("problem_type") == "regression":
            yield {"text_a": f"{text} {number}", "text_b": other, "score": number % 11 / 2}
        else:
            yield {"text": f"{text} {number}", "label": labels[number % len(labels)]}


def worded(head: dict[str, Any], data: dict[str, Any]) -> Rows:
    """Sentences, and a name in each."""
    for number in range(NUM_ROWS):
        words = f"{SENTENCES[number % len(SENTENCES)]} {number}".split()
        tags = ["O", "B-animal", "I-animal", *["O"] * (len(words) - 3)]
        yield {"tokens": words, "ner_tags": tags}


def asked(head: dict[str, Any], data: dict[str, Any]) -> Rows:
    """Questions about sentences."""
    for number in range(NUM_ROWS):
        text = f"{number} {' '.join(SENTENCES)}"
        start = text.index("red sun")
        answers = [{"text": "red sun", "answer_start": start}] if number % 4 else []
        yield {"question": f"where to {number}", "context": text, "answers": answers}


def solved(head: dict[str, Any], data: dict[str, Any]) -> Rows:
    """Problems whose answer is a number."""
    for number in range(NUM_ROWS):
        yield {"question": f"the cat and {number} more", "answer": f"1+{number}\n#### {number + 1}"}


def alike(head: dict[str, Any], data: dict[str, Any]) -> Rows:
    """Pairs of sentences with a score."""
    return labelled({"problem_type": "regression"}, data)


def paired(head: dict[str, Any], data: dict[str, Any]) -> Rows:
    """A text and another, under the columns of all recipes for pairs."""
    for number in range(NUM_ROWS):
        text, other = (SENTENCES[(number * step) % len(SENTENCES)] for step in (1, 3))
        read = dict.fromkeys(("en", "dialogue", "source", "java", "text"), f"{text} {number}")
        written = dict.fromkeys(("de", "summary", "target", "cs", "code"), other)
        yield {**read, **written, "test_list": ["assert True"]}


def talked(head: dict[str, Any], data: dict[str, Any]) -> Rows:
    """Conversations of two turns, or a dialogue and what it is about."""
    if "question" in data:
        yield from paired(head, data)
        return
    for number in range(NUM_ROWS):
        roles = ("user", "assistant", "user", "assistant")
        said = (SENTENCES[(number + turn) % len(SENTENCES)] for turn in range(len(roles)))
        yield {"messages": [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]}


def compared(head: dict[str, Any], data: dict[str, Any]) -> Rows:
    """Questions with a better and a worse answer."""
    for number in range(NUM_ROWS):
        text, other = SENTENCES[number % len(SENTENCES)], SENTENCES[(number + 1) % len(SENTENCES)]
        yield {"prompt": f"{number} {text}", "chosen": other, "rejected": text}


WRITERS: dict[str, Callable[[dict[str, Any], dict[str, Any]], Rows]] = {
    "TextClassification": labelled,
    "TokenClassification": worded,
    "ExtractiveQA": asked,
    "NumberChoice": solved,
    "Similarity": alike,
    "TextPairs": paired,
    "Conversations": talked,
    "Preferences": compared,
}
"""What the rows of each kind of data are, given the arguments of the head and of the data."""


def write_splits(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    for name, part in {"train": rows[:-10], "dev": rows[-10:]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


def write_corpus(folder: Path) -> Path:
    """Sentences to be searched, and questions that are sentences."""
    folder.mkdir(parents=True)
    rows = [{"_id": str(number), "text": f"{text} {number}"} for number, text in enumerate(SENTENCES * 4)]
    for name in ("corpus", "queries"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("train", "test"):
        lines = ["query-id\tcorpus-id\tscore", *(f"{row['_id']}\t{row['_id']}\t1" for row in rows)]
        (folder / f"qrels_{name}.tsv").write_text("\n".join(lines))
    return folder


def source_for(data: dict[str, Any], head: dict[str, Any], folder: Path) -> str:
    """A folder of small data as the recipe's data reads it."""
    if data["class_path"].endswith("Retrieval"):
        return str(write_corpus(folder))
    rows = WRITERS[data["class_path"].rpartition(".")[2]](head.get("init_args", {}), data["init_args"])
    path = write_splits(folder, list(rows))
    return str(path) if "validation" in data["init_args"] else f"{path}:train"


def small_model(module: str, folder: Path) -> Path:
    """A tiny backbone with a tokenizer, in the Hub's format."""
    family = SHAPES[module]
    (group,) = {entry.group for entry in registry.entries() if entry.attribute == family}
    spec = registry.attribute(group, family)
    sizes = {**spec.tiny, "vocab_size": 300, "max_position_embeddings": 2048, "pad_token_id": 0}
    model = module_of(spec.shape)(spec(**sizes), heads={})
    model.build()
    kind = KINDS[family]
    model.adopt_tokenizer(train(kind, [*SENTENCES, "vexing judges 0123456789"], sizes["vocab_size"]))
    return zoo.save(model, folder)


@pytest.fixture
def localised(tmp_path: Path) -> Callable[[str], list[str]]:
    """Flags with which a recipe trains a small model on small data."""

    def localised(name: str) -> list[str]:
        values = recipes.read(registry.recipe_path(name)).values
        model, data = values["model"], values["data"]
        backbone = small_model(model["class_path"].rpartition(".")[2], tmp_path / "model")
        flags = ["--config", "presets/cpu", "--model.backbone", str(backbone)]
        if "widths" in model["init_args"].get("head", {}).get("init_args", {}):
            flags += ["--model.head.widths", "[32, 16]"]
        if "row_tokens" in data["init_args"]:  # of rows as long as a recipe's, small data fill none
            flags += ["--data.max_length", "256", "--data.row_tokens", "256"]
        if data["class_path"] != "zoo.data.Mixture":
            head = model["init_args"].get("head", {})
            return [*flags, "--data.source", source_for(data, head, tmp_path / "data")]
        parts, heads = data["init_args"]["parts"], model["init_args"]["heads"]
        for part, inner in parts.items():
            source = source_for(inner, heads[part], tmp_path / part)
            inner["init_args"] |= {"source": source, "batch_size": 4}
        layer = tmp_path / "parts.yaml"
        layer.write_text(yaml.safe_dump({"data": {"init_args": {"parts": parts}}}))
        return ["--config", str(layer), *flags]

    return localised
