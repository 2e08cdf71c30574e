"""mBART beside transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.mbart.modeling_mbart import shift_tokens_right

import zoo
from zoo.testing import assert_writes_alike
from zoo.testing.writing import writer_of

from .conftest import made_by_transformers

TINY: dict[str, Any] = {
    "vocab_size": 96, "d_model": 32, "encoder_ffn_dim": 56, "decoder_ffn_dim": 40, "encoder_layers": 2,
    "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 2,
    "max_position_embeddings": 64, "forced_eos_token_id": None,
    "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "more heads read than write": {},
    "more blocks write than read": {"encoder_layers": 1, "decoder_layers": 3, "decoder_start_token_id": 90},
    "odd heads, scaled embedding": {
        "d_model": 27, "encoder_attention_heads": 9, "decoder_attention_heads": 3, "scale_embedding": True,
    },
    "relu": {"activation_function": "relu"},
}  # fmt: skip
HEADS = {
    "Seq2SeqLM": "MBartForConditionalGeneration",
    "SequenceClassification": "MBartForSequenceClassification",
    "ExtractiveQA": "MBartForQuestionAnswering",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **VARIANTS[variant]})


@pytest.fixture
def models(tmp_path: Path) -> tuple[Any, Any]:
    """Ours and theirs."""
    theirs = made_by_transformers(HEADS["Seq2SeqLM"], TINY)
    theirs.save_pretrained(tmp_path)
    return zoo.load(tmp_path), theirs


def test_the_decoder_reads_the_language_first(models: tuple[Any, Any]) -> None:
    ours, _ = models
    labels = torch.randint(3, 96, (3, 7))
    labels[1, 4:] = labels[2, 1:] = -100
    (_, (read, _)) = ours.read({"input_ids": labels, "labels": labels})
    assert torch.equal(read, shift_tokens_right(labels, 1))
    assert read[:, 0].tolist() == [labels[0, 6], labels[1, 3], labels[2, 0]]


def test_each_packed_text_begins_with_its_own_language(models: tuple[Any, Any]) -> None:
    ours, _ = models
    labels = torch.tensor([[10, 11, 90, 20, 21, 22, 91, -100], [30, 92, -100, -100, -100, -100, -100, -100]])
    documents = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 0, 0, 0, 0, 0, 0]])
    batch = {"input_ids": labels, "labels": labels, "decoder_attention_mask": documents}
    (_, (read, _)) = ours.read(batch)
    assert read[0, :7].tolist() == [90, 10, 11, 91, 20, 21, 22]
    assert read[1, :2].tolist() == [92, 30]


@pytest.mark.parametrize(("start", "forced"), [(None, 90), (91, None), (2, 90)])
def test_texts_begin_as_generation_config_says(
    models: tuple[Any, Any], start: int | None, forced: int | None
) -> None:
    ours, theirs = models
    said = {"decoder_start_token_id": start, "forced_bos_token_id": forced}
    ours.generation_config = {name: value for name, value in said.items() if value is not None}
    for name, value in said.items():
        setattr(theirs.generation_config, name, value)
    ids = torch.randint(3, 96, (2, 7))
    kept = {"max_new_tokens": 6, "num_beams": 1}
    written = ours.generate(ids, temperature=0.0, **kept)
    expected = theirs.generate(ids, do_sample=False, eos_token_id=None, **kept)[:, 1:].tolist()
    assert written == expected
    assert forced is None or {row[0] for row in written} == {forced}


def test_beams_after_a_forced_language_are_those_of_transformers(models: tuple[Any, Any]) -> None:
    ours, theirs = models
    ours.generation_config = {"decoder_start_token_id": 91}
    theirs.generation_config.decoder_start_token_id = 91
    assert_writes_alike(ours, writer_of(theirs))
