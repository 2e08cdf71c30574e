"""The report: each shape beside the baselines of its own data, and what it says."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest

import zoo
from zoo.callbacks import Checkpoint, Report

Command = Callable[..., Any]


def tiny(family: Any, **sizes: Any) -> Any:
    return family(**{**family.tiny, **sizes})


def fit(folder: Path, module: Any, data: Any, **settings: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=False,
        max_steps=4,
        val_check_interval=4,
        callbacks=[Report(**settings), Checkpoint()],
    )
    trainer.fit(module, datamodule=data)
    return trainer


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Small talk of two kinds, and what is to be written about each: itself, with spaces."""
    path = tmp_path / "rows.jsonl"
    kinds = {"sum": ["add {} and {}", "{} plus {}"], "product": ["{} times {}", "multiply {} by {}"]}
    found = [
        {"text": text, "label": label, "input": text.replace(" ", ""), "target": text}
        for number in range(40)
        for label, forms in kinds.items()
        for text in (form.format(number, number + 1) for form in forms)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def table(shown: str, head: str) -> dict[str, str]:
    """The rows of the table of two columns whose head begins so."""
    body = shown.split(f"┃ {head}")[1].split("└")[0]
    return dict(re.findall(r"│ (.*?) +│ +(\S+) │", body))


@pytest.mark.usefixtures("wide")
def test_a_classifier_stands_beside_the_commonest_label_and_shows_answers_with_the_right_ones(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = zoo.modules.EncoderModule(
        backbone=tiny(zoo.encoders.Bert, vocab_size=200), head=zoo.heads.SequenceClassification()
    )
    data = zoo.data.TextClassification(str(rows), vocab_size=200, batch_size=8, max_length=32)
    trainer = fit(tmp_path, module, data, num_questions=3)
    shown = capsys.readouterr().out
    expected = {**data.baselines(), "this model": float(trainer.callback_metrics["val/accuracy"])}
    assert expected.keys() >= {"the commonest label", "TF-IDF and logistic regression"}
    assert table(shown, "texts it never saw") == {name: f"{share:.1%}" for name, share in expected.items()}
    asked = re.findall(r"│ (.*?) +│ (sum|product) +│ (sum|product) +│", shown)
    right = dict(data.questions())
    assert len(asked) == 3
    for text, said, answer in asked:
        assert right[text] == answer
        assert module.predict([text])[0]["label"] == said
    assert "zoo generate" not in shown


@pytest.mark.usefixtures("wide")
def test_a_writer_stands_beside_copying_and_shows_what_it_writes_beside_the_truth(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = zoo.modules.EncoderDecoderModule(backbone=tiny(zoo.encoder_decoders.Transformer, vocab_size=300))
    data = zoo.data.TextPairs(str(rows), tokenizer="bpe", vocab_size=300, batch_size=8, max_length=32)
    fit(tmp_path, module, data, num_questions=2, prompt="add1and2", max_new_tokens=5)
    shown = capsys.readouterr().out
    texts, right = zip(*data.questions(), strict=True)
    assert data.measure is not None
    assert data.measure.score is not None
    mine = data.measure.score(module.predict(texts), right)
    copied = sum(target.count(" ") for target in right) / sum(map(len, right))
    assert table(shown, "texts it never saw") == {
        "copying what it reads": f"{copied:.1%}",
        "this model": f"{mine:.1%}",
    }
    assert f"│ {right[0]} " in shown
    assert "what it writes about add1and2" in shown
    assert re.search(r"zoo generate \S+/last.ckpt add1and2$", shown, re.MULTILINE)


@pytest.mark.usefixtures("wide")
def test_several_heads_are_reported_each_and_one_is_exported(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = zoo.modules.EncoderModule(
        backbone=tiny(zoo.encoders.Bert, vocab_size=200),
        heads={"words": zoo.heads.MaskedLM(), "kind": zoo.heads.SequenceClassification()},
    )
    sizes = {"vocab_size": 200, "batch_size": 4}
    data = zoo.data.Mixture(
        {
            "words": zoo.data.Text(str(rows), tokenizer="wordpiece", sequence_length=32, **sizes),
            "kind": zoo.data.TextClassification(str(rows), max_length=32, **sizes),
        },
        steps={"words": 2, "kind": 2},
    )
    trainer = fit(tmp_path, module, data)
    shown = capsys.readouterr().out
    reached = float(trainer.callback_metrics["val/kind/accuracy"])
    assert table(shown, "texts it never saw")["this model"] == f"{reached:.1%}"
    assert "to tell a byte" not in shown  # the hidden words' head knows no bytes
    (export,) = re.findall(r"zoo (export \S+/last.ckpt my-model --head kind)$", shown, re.MULTILINE)
    assert export


@pytest.mark.usefixtures("wide")
def test_the_commands_that_are_shown_run(rows: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"""\
model:
  class_path: zoo.modules.EncoderModule
  init_args:
    backbone: {{class_path: zoo.encoders.Bert, init_args: {{vocab_size: 200, hidden_size: 16,
      intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 1, max_position_embeddings: 32}}}}
    heads:
      words: {{class_path: zoo.heads.MaskedLM}}
      kind: {{class_path: zoo.heads.SequenceClassification}}
data:
  class_path: zoo.data.Mixture
  init_args:
    parts:
      words: {{class_path: zoo.data.Text,
        init_args: {{source: {rows}, tokenizer: wordpiece, vocab_size: 200, sequence_length: 32,
          batch_size: 4}}}}
      kind: {{class_path: zoo.data.TextClassification,
        init_args: {{source: {rows}, vocab_size: 200, max_length: 32, batch_size: 4}}}}
    steps: {{words: 1, kind: 1}}
trainer:
  accelerator: cpu
  max_epochs: 1
  num_sanity_val_steps: 0
  enable_progress_bar: false
  callbacks: [{{class_path: zoo.callbacks.Report}}]
""",
        "utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        done = command("fit", "--config", "recipe.yaml")
        assert done.code == 0, done.err
        lines = re.findall(r"^  \S*zoo ((?:predict|export) .*)$", done.out, re.MULTILINE)
        assert [line.split()[0] for line in lines] == ["predict", "export"]
        for line in lines:
            again = command(*line.split())
            assert again.code == 0, again.err
        (predictions,) = tmp_path.rglob("predictions.jsonl")
        found = [json.loads(line)["prediction"] for line in predictions.read_text().splitlines()]
        assert {"text", "label"} <= {key for prediction in found for key in prediction}


def test_a_model_whose_validation_says_nothing_is_compared_to_nothing(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = zoo.modules.DecoderModule(backbone=tiny(zoo.decoders.Llama, vocab_size=300))
    data = zoo.data.Text(str(rows), vocab_size=300, sequence_length=16, batch_size=4)
    trainer = L.Trainer(
        accelerator="cpu", default_root_dir=tmp_path, max_steps=1, limit_val_batches=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Report()],
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    shown = capsys.readouterr().out
    assert re.search(r"Trained a model of 0\.0 million parameters for 1 steps in", shown)
    assert "this model" not in shown


def test_a_run_that_ended_early_says_of_how_many_steps(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class End(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
            trainer.should_stop = True

    module = zoo.modules.DecoderModule(backbone=tiny(zoo.decoders.Llama, vocab_size=300))
    data = zoo.data.Text(str(rows), vocab_size=300, sequence_length=16, batch_size=4)
    trainer = L.Trainer(
        accelerator="cpu", default_root_dir=tmp_path, max_steps=5, limit_val_batches=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Report(), End()],
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert "for 1 of 5 steps in" in capsys.readouterr().out
