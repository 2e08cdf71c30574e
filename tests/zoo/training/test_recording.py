"""What a run tells of itself in its checkpoints."""

import copy
import itertools
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import zoo
from zoo.data import Mixture, Text, TextClassification
from zoo.modules import DecoderModule, EncoderModule
from zoo.training.recording import MOST_POINTS, Recording, versions


def trainer(folder: Path, **choices: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
        **{"max_epochs": 1, "log_every_n_steps": 2, **choices},
    )  # fmt: skip


def recording_of(trainer: L.Trainer) -> Recording:
    return next(one for one in trainer.callbacks if isinstance(one, Recording))  # type: ignore[attr-defined]


def decoder() -> DecoderModule:
    llama = zoo.decoders.Llama
    spec = llama(**{**llama.tiny, "vocab_size": 300})
    return DecoderModule(backbone=spec, lr_schedule=zoo.schedules.Constant())


@pytest.fixture
def text(tmp_path: Path) -> Text:
    (tmp_path / "words.txt").write_text("the cat sat on the mat.\n" * 80)
    return Text(source=str(tmp_path / "words.txt"), vocab_size=300, sequence_length=16, batch_size=8)


def test_curves_rows_and_circumstances_stand_in_the_checkpoint(text: Text, tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=2)
    run.fit(decoder(), datamodule=text)
    run.save_checkpoint(tmp_path / "last.ckpt")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["Recording"]
    steps = [step for step, _ in kept["curves"]["train/loss"]]
    assert steps == list(range(2, run.global_step + 1, 2))
    assert [step for step, _ in kept["curves"]["val/loss"]] == [run.global_step // 2, run.global_step]
    assert kept["curves"]["val/loss"][-1][1] == float(run.callback_metrics["val/loss"])
    assert kept["num_rows"] == {"val/": sum(len(batch["labels"]) for batch in text.val_dataloader())}
    facts = kept["facts"]
    assert (facts["hardware"], facts["precision"]) == ("1 × cpu", "32-true")
    assert facts["data"] == {str(tmp_path / "words.txt"): None}
    assert facts["versions"]["torch"] == torch.__version__


def test_a_run_that_goes_on_keeps_its_curves(text: Text, tmp_path: Path) -> None:
    whole, first, second = (trainer(tmp_path, max_epochs=-1, max_steps=steps) for steps in (8, 4, 8))
    for run in (whole, first):
        torch.manual_seed(0)
        run.fit(decoder(), datamodule=copy.deepcopy(text))
    first.save_checkpoint(tmp_path / "half.ckpt")
    second.fit(decoder(), datamodule=copy.deepcopy(text), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert recording_of(second).curves["train/loss"] == recording_of(whole).curves["train/loss"]
    assert len(recording_of(second).curves["train/loss"]) == 4


def test_each_of_several_heads_has_rows_of_its_own(text: Text, tmp_path: Path) -> None:
    rows = [f"{word} film,{label}" for word, label in (("good", "yes"), ("bad", "no")) for _ in range(10)]
    (tmp_path / "films.csv").write_text("text,label\n" + "\n".join(f"{row}" for row in rows) + "\n")
    films = TextClassification(
        source=str(tmp_path / "films.csv"),
        validation_fraction=0.3,
        vocab_size=300,
        batch_size=2,
        max_length=32,
    )
    words = Text(source=text.source, tokenizer="wordpiece", vocab_size=300, sequence_length=16, batch_size=8)
    bert = zoo.encoders.Bert
    model = EncoderModule(
        backbone=bert(**{**bert.tiny, "vocab_size": 300}),
        heads={"words": zoo.heads.MaskedLM(), "tone": zoo.heads.SequenceClassification(labels=["no", "yes"])},
    )
    run = trainer(tmp_path, max_epochs=-1, max_steps=4, val_check_interval=2)
    run.fit(model, datamodule=Mixture(parts={"words": words, "tone": films}))
    recording = recording_of(run)
    assert recording.num_rows.keys() == {"val/words/", "val/tone/"}
    assert recording.num_rows["val/tone/"] == sum(len(batch["labels"]) for batch in films.val_dataloader())
    assert "val/tone/accuracy" in recording.curves
    assert len(recording.facts["data"]) == 2


def test_a_long_curve_is_thinned_and_stays_even() -> None:
    recording = Recording()
    for step in range(1, 20 * MOST_POINTS):
        recording._add("train/loss", step, 1.0)
    steps = [step for step, _ in recording.curves["train/loss"]]
    assert MOST_POINTS / 2 <= len(steps) <= MOST_POINTS
    assert len({later - sooner for sooner, later in itertools.pairwise(steps)}) == 1
    again = Recording()
    again.load_state_dict(recording.state_dict())
    for one in (recording, again):
        for step in range(20 * MOST_POINTS, 22 * MOST_POINTS):
            one._add("train/loss", step, 2.0)
    assert again.curves == recording.curves


def test_versions_name_the_plugin_of_what_is_used() -> None:
    assert list(versions(decoder())) == ["lightning-zoo", "torch", "lightning", "Python"]
