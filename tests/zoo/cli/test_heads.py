"""Heads and data that fit, and that do not, by recipe."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

RECIPE = """\
model:
  class_path: zoo.modules.EncoderModule
  init_args:
    backbone:
      class_path: zoo.encoders.Bert
      init_args:
        vocab_size: 120
        hidden_size: 16
        intermediate_size: 32
        num_hidden_layers: 1
        num_attention_heads: 2
        max_position_embeddings: 48
    heads:
      words: {class_path: zoo.heads.MaskedLM}
      kind: {class_path: zoo.heads.SequenceClassification}
data:
  class_path: zoo.data.Mixture
  init_args:
    parts:
      words:
        class_path: zoo.data.Text
        init_args:
          source: rows.jsonl
          tokenizer: wordpiece
          vocab_size: 120
          sequence_length: 16
          batch_size: 4
      kind:
        class_path: zoo.data.TextClassification
        init_args:
          source: rows.jsonl
          vocab_size: 120
          max_length: 16
          batch_size: 4
trainer:
  accelerator: cpu
  max_steps: 4
  num_sanity_val_steps: 0
  enable_progress_bar: false
"""

REFUSED = {
    "a head of another shape": (
        "words: {class_path: zoo.heads.MaskedLM}", "words: {class_path: zoo.heads.CausalLM}",
        "zoo: the head zoo.heads.CausalLM does not fit zoo.encoders.Bert, which is an encoder\n"
        "  at    model.heads.words\n"
        "  in    recipe.yaml:14\n"
        "  heads that fit: Embedding, ExtractiveQA, MaskedLM, MultipleChoice, ReplacedTokenDetection, "
        "SequenceClassification, TokenClassification\n",
    ),
    "data for another head": (
        "class_path: zoo.data.TextClassification", "class_path: zoo.data.TextPairs",
        "zoo: zoo.data.TextPairs makes no batches for zoo.heads.SequenceClassification\n"
        "  at    data.parts.kind\n"
        "  in    recipe.yaml:28\n"
        "  data that does: StandardLibraryFunctions, TextClassification\n",
    ),
    "data for no head": (
        "      kind:\n        class_path", "      sort:\n        class_path",
        "zoo: the model has no head `sort` for this data\n"
        "  at    data.parts.sort\n"
        "  in    recipe.yaml:28\n"
        "  its heads: words, kind\n",
    ),
    "rows too long for the model": (
        "max_length: 16", "max_length: 64",
        "zoo: rows of 64 tokens are too long for a model that sees 48\n"
        "  at    data.parts.kind.max_length\n"
        "  in    recipe.yaml:33\n"
        "  set it to at most 48, or the backbone's max_position_embeddings\n",
    ),
    "a tokenizer too large for the model": (
        "vocab_size: 120\n          max", "vocab_size: 121\n          max",
        "zoo: a tokenizer of 121 ids is too large for a backbone of 120\n"
        "  at    data.parts.kind.vocab_size\n"
        "  in    recipe.yaml:32\n"
        "  set it to at most 120, or the backbone's vocab_size\n",
    ),
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = (
        {"text": f"the {('cat', 'sun')[index % 2]} is red {index}", "label": index % 2} for index in range(60)
    )
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mistake", REFUSED)
def test_parts_that_do_not_fit_are_refused_by_check(command: Command, place: Path, mistake: str) -> None:
    old, new, screen = REFUSED[mistake]
    assert RECIPE.count(old) == 1
    recipe = RECIPE.replace(old, new)
    if "TextPairs" in new:
        recipe = recipe.replace(
            "          max_length: 16", "          input: text\n          tokenizer: wordpiece"
        )
    (place / "recipe.yaml").write_text(recipe)
    outcome = command("check", "recipe.yaml")
    assert (outcome.code, outcome.err) == (2, screen)


def test_data_of_one_head_are_refused_beside_several(command: Command, place: Path) -> None:
    head, _, rest = RECIPE.partition("data:\n")
    data = "data:\n  class_path: zoo.data.Text\n  init_args: {source: rows.jsonl}\n"
    (place / "recipe.yaml").write_text(head + data + rest[rest.index("trainer:") :])
    outcome = command("check", "recipe.yaml")
    assert (outcome.code, outcome.err) == (
        2,
        "zoo: zoo.data.Text makes batches for one head, the model has words, kind\n"
        "  at    data\n"
        "  in    recipe.yaml:16\n"
        "  give zoo.data.Mixture a part for each head\n",
    )


def test_a_row_that_is_wrong_is_named_with_its_line(command: Command, place: Path) -> None:
    with (place / "rows.jsonl").open("a") as file:
        file.write('\n{"text": "the cat", "label": ""}')
    outcome = command("fit", "--config", "recipe.yaml")
    assert (outcome.code, outcome.err) == (
        2,
        "zoo: `label` is empty\n  at    data.parts.kind\n  in    rows.jsonl:61\n  give each text a label\n",
    )


def test_a_recipe_of_two_heads_is_checked_run_asked_and_exported(command: Command, place: Path) -> None:
    checked = command("check", "recipe.yaml")
    assert (checked.code, checked.err) == (0, "")
    assert "head words" in checked.out
    assert "head kind" in checked.out
    assert command("fit", "--config", "recipe.yaml").code == 0
    (checkpoint,) = place.rglob("last.ckpt")
    asked = command("predict", "--config", "recipe.yaml", "--ckpt_path", str(checkpoint))
    assert asked.code == 0, asked.err
    (path,) = place.rglob("predictions.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    heads = [line["head"] for line in lines]
    assert heads == sorted(heads, reverse=True)
    assert set(heads) == {"words", "kind"}
    assert {line["prediction"]["label"] for line in lines if line["head"] == "kind"} <= {"0", "1"}
    assert all("[MASK]" in line["prompt"] for line in lines if line["head"] == "words")
    refused = command("export", str(checkpoint), "folder")
    assert (refused.code, refused.err) == (
        2,
        "zoo: the model has several heads, and none was named\n  its heads: words, kind\n",
    )
    assert command("export", str(checkpoint), "folder", "--head", "kind").code == 0
    assert json.loads((place / "folder" / "config.json").read_text())["id2label"] == {"0": "0", "1": "1"}
