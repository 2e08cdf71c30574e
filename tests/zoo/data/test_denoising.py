"""Texts that an encoder-decoder mends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest

import zoo
from zoo.data import Denoising
from zoo.errors import DataError, SpecError
from zoo.layers import IGNORED

Write = Callable[..., Path]
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "sequence_length": 24,
    "batch_size": 4,
    "validation_fraction": 0.2,
}


def model(**choices: Any) -> Any:
    return zoo.modules.EncoderDecoderModule(
        backbone=zoo.encoder_decoders.T5(
            vocab_size=320,
            hidden_size=16,
            head_dim=8,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
        ),
        head=zoo.heads.Seq2SeqLM(),
        **choices,
    )


@pytest.mark.parametrize("corruption", ["spans", "infilling"])
@pytest.mark.parametrize("kind", ["unigram", "bpe", "wordpiece"])
def test_a_trained_tokenizer_has_what_stands_in_holes(
    sources: Write, own_cache: Path, corruption: Any, kind: Any
) -> None:
    data = Denoising(str(sources()), corruption=corruption, tokenizer=kind, **SIZES)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    tokenizer = data._tokenizer
    assert tokenizer is not None
    assert tokenizer.vocab_size <= 320
    assert max(batch["input_ids"].shape[1], (batch["labels"] != IGNORED).sum(1).max()) <= 24
    if corruption == "infilling":
        assert (batch["input_ids"] == tokenizer.special_id("mask_token")).any(1).all()
    else:
        first = tokenizer.backend.token_to_id("<extra_id_0>")
        assert (batch["input_ids"] == first).any(1).all()
        assert (batch["labels"] == first).any(1).all()


def test_held_out_rows_have_the_same_holes_each_time_and_training_rows_do_not(
    sources: Write, own_cache: Path
) -> None:
    data = Denoising(str(sources()), **SIZES)
    data.setup("fit")
    first, second = (next(iter(data.val_dataloader()))["labels"].tolist() for _ in range(2))
    assert first == second
    collate = data._collate(None)
    assert data.training_rows is not None
    rows = [data.training_rows[number] for number in range(4)]
    assert collate(rows)["labels"].tolist() != collate(rows)["labels"].tolist()


def test_a_t5_learns_to_mend_texts_and_writes_what_was_hidden(sources: Write, own_cache: Path) -> None:
    data, learner = Denoising(str(sources(60)), **SIZES), model()
    trainer = L.Trainer(max_steps=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(learner, data)
    (measured,) = trainer.validate(learner, data)
    assert all(value > 0 for value in measured.values())
    answers = trainer.predict(learner, data)
    assert answers
    prompts = next(iter(data.predict_dataloader()))["prompts"]
    assert all("<extra_id_0>" in prompt for prompt in prompts)


def test_a_tokenizer_with_too_few_sentinels_is_refused(sources: Write, own_cache: Path) -> None:
    data = Denoising(str(sources()), **SIZES)
    data.setup("fit")
    longer = Denoising(str(sources()), **{**SIZES, "sequence_length": 200, "vocab_size": 400})
    longer._tokenizer = data._tokenizer
    with pytest.raises(DataError) as caught:
        longer._collate(None)
    assert str(caught.value) == (
        "rows of 200 tokens have 10 holes, the tokenizer has 1 tokens like `<extra_id_0>` to stand in them\n"
        "  take shorter rows, a larger mean_span_tokens, or set data.corruption: infilling"
    )


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"hidden_fraction": 1.0}, "`hidden_fraction` must lie between 0 and 1, got 1.0"),
        ({"mean_span_tokens": 0.5}, "`mean_span_tokens` must be at least 1, got 0.5"),
        ({"permute_sentences": True}, "`permute_sentences` is of infilling, got corruption: spans"),
        ({"vocab_size": 259}, "`vocab_size` must be at least 260, got 259"),
        ({"sequence_length": 4}, "`sequence_length` must be at least 8, got 4"),
    ],
)
def test_what_makes_no_holes_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        Denoising("texts", **{**SIZES, **choices})
    assert caught.value.message == message
