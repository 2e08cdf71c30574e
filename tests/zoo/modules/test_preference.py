"""Pairs of answers beside a reference: asked once and kept, or in memory; what does not match is told."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.testing import assert_close

import zoo
from zoo.data import Preferences
from zoo.errors import CheckpointError, DataError, SpecError
from zoo.heads import Preference
from zoo.modules import PreferenceModule
from zoo.specs import HubModel
from zoo.tokenizer import train

ROWS = [{"prompt": f"say {number}", "chosen": f"it is {number}", "rejected": "no"} for number in range(24)]


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def data_of(source: str, **choices: Any) -> Preferences:
    return Preferences(source, **{"vocab_size": 300, "max_length": 48, "batch_size": 4, **choices})


def module_for(backbone: Any = None, **choices: Any) -> PreferenceModule:
    sizes = {**zoo.decoders.Llama.tiny, "vocab_size": 300, "initializer_range": 0.1}
    constant = zoo.schedules.Constant()
    return PreferenceModule(
        backbone or zoo.decoders.Llama(**sizes),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=2e-3),
        lr_schedule=constant,
        **choices,
    )


def trainer_for(folder: Path, steps: int) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, val_check_interval=1,
    )  # fmt: skip


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """A model's folder, with a tokenizer and a template."""
    data = data_of(write(tmp_path, ROWS))
    data.setup("fit")
    model = zoo.modules.DecoderModule(module_for().spec)
    model.build()
    model.adopt_tokenizer(data.tokenizer)
    return str(zoo.save(model, tmp_path / "saved"))


@pytest.mark.parametrize("objective", ["dpo", "ipo", "hinge", "orpo", "kto"])
def test_better_answers_become_likelier_than_worse_ones(objective: str, tmp_path: Path) -> None:
    module, trainer = module_for(head=Preference(objective=objective)), trainer_for(tmp_path, 12)
    trainer.fit(module, datamodule=data_of(write(tmp_path, ROWS)))
    assert trainer.callback_metrics["val/accuracy"] == 1.0
    assert trainer.callback_metrics["val/margin"] > 0.1


def test_a_model_is_at_first_its_own_reference(tmp_path: Path) -> None:
    module, trainer = module_for(), trainer_for(tmp_path, 1)
    (found,) = trainer.validate(module, datamodule=data_of(write(tmp_path, ROWS)), verbose=False)
    assert_close(found["val/loss"], 0.6931472, rtol=1e-5, atol=1e-6)
    assert_close(found["val/margin"], 0.0, rtol=0, atol=1e-6)


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_a_reference_that_was_asked_once_says_what_one_in_memory_says(
    objective: str, saved: str, tmp_path: Path
) -> None:
    found = []
    for choices in ({}, {"reference": HubModel(saved)}, {"reference": HubModel(saved), "precompute": False}):
        module = module_for(HubModel(saved), head=Preference(objective=objective), **choices)
        trainer = trainer_for(tmp_path, 3)
        L.seed_everything(0)
        trainer.fit(module, datamodule=data_of(write(tmp_path, ROWS)))
        found.append(trainer.callback_metrics["val/loss"])
    assert_close(found[1:], found[:1] * 2)


def test_a_run_goes_on_with_the_reference_it_began_with(saved: str, tmp_path: Path) -> None:
    data, module = data_of(write(tmp_path, ROWS)), module_for(HubModel(saved))
    trainer = trainer_for(tmp_path, 4)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["reference_log_probs"]
    assert kept["log_probs"].shape == (24, 2)
    assert kept["log_probs"].isfinite().all()
    again = module_for(HubModel(saved))
    (found,) = trainer_for(tmp_path, 4).validate(
        again, datamodule=data_of(write(tmp_path, ROWS)), ckpt_path=tmp_path / "last.ckpt", verbose=False
    )
    assert_close(found["val/margin"], float(trainer.callback_metrics["val/margin"]))
    assert found["val/margin"] > 0
    other, again = data_of(write(tmp_path, ROWS[1:])), module_for(HubModel(saved))
    with pytest.raises(CheckpointError, match="keeps what the reference holds of other pairs"):
        trainer_for(tmp_path, 4).validate(again, datamodule=other, ckpt_path=tmp_path / "last.ckpt")


def test_a_checkpoint_stands_alone_and_talks(tmp_path: Path) -> None:
    module, trainer = module_for(), trainer_for(tmp_path, 1)
    trainer.fit(module, datamodule=data_of(write(tmp_path, ROWS)))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = zoo.load(tmp_path / "last.ckpt")
    assert type(again) is PreferenceModule
    for name, tensor in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert isinstance(again.generate([{"role": "user", "content": "say"}], max_new_tokens=2), str)


def test_a_reference_that_reads_otherwise_is_refused(saved: str, tmp_path: Path) -> None:
    model = zoo.load(saved)
    model.tokenizer = None
    model.adopt_tokenizer(train("bpe", ["another text"], 300))
    other = zoo.save(model, tmp_path / "other")
    module = module_for(HubModel(saved), reference=HubModel(str(other)))
    with pytest.raises(SpecError) as refused:
        trainer_for(tmp_path, 1).fit(module, datamodule=data_of(write(tmp_path, ROWS)))
    assert str(refused.value) == (
        f"the reference {other} reads texts otherwise than the model\n"
        "  at    model.reference\n"
        "  give the model that training begins with, or one of its tokenizer"
    )


def test_what_stays_in_memory_must_be_named() -> None:
    with pytest.raises(SpecError, match="keeps a reference in memory, and none is named"):
        module_for(precompute=False)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "chosen": "b"}, "a row has no `rejected`"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "`chosen` and `rejected` are the same"),
        ({"chosen": "b", "rejected": "c"}, "a row has no prompt, and `chosen` holds none"),
        ({"prompt": "a", "chosen": " ", "rejected": "c"}, "`chosen` is empty"),
    ],
)
def test_rows_that_are_no_pair_are_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = write(tmp_path, [*ROWS[:3], row])
    with pytest.raises(DataError) as refused:
        data_of(source).examples()
    assert (refused.value.message, refused.value.source) == (message, f"{source}:4")


def test_only_answers_are_compared_wherever_the_prompt_stands(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "who"}, {"role": "assistant", "content": "I"},
             {"role": "user", "content": "and"}]  # fmt: skip
    answers = [{"role": "assistant", "content": word} for word in ("you", "they")]
    rows = [
        {"messages": asked, "chosen": "you", "rejected": "they"},
        {"prompt": asked, "chosen": answers[:1], "rejected": answers[1:]},
        {"chosen": [*asked, answers[0]], "rejected": [*asked, answers[1]]},
    ]
    data = data_of(write(tmp_path, [*rows, *ROWS]), max_length=200)
    data.setup("fit")
    pairs = [pair for pair in data.all_pairs if pair.chosen == "you"]
    assert len(pairs) == 3
    batch = data.collate(pairs)
    for answer, labels in zip(["you"] * 3 + ["they"] * 3, batch["labels"], strict=True):
        told = data.tokenizer.decode(labels[labels >= 0].tolist(), skip_special=False)
        assert told == f"{answer}<|endoftext|>"
