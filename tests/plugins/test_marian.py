"""Marian beside transformers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.errors import SpecError
from zoo.testing import assert_parity
from zoo.testing.batches import batch_for
from zoo.testing.parity import reference_of

from .conftest import made_by_transformers

TINY: dict[str, Any] = {
    "vocab_size": 96, "d_model": 32, "encoder_ffn_dim": 56, "decoder_ffn_dim": 40, "encoder_layers": 2,
    "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 2,
    "max_position_embeddings": 64, "forced_eos_token_id": None,
    "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "more heads read than write": {},
    "more blocks write than read": {"encoder_layers": 1, "decoder_layers": 3},
    "odd heads, as the Hub's": {
        "d_model": 54, "encoder_attention_heads": 9, "decoder_attention_heads": 3,
        "scale_embedding": True, "activation_function": "swish",
    },
    "two vocabularies": {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 130},
    "two vocabularies of a size, untied": {
        "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 96, "tie_word_embeddings": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(prove_both_ways: Callable[..., None], variant: str) -> None:
    prove_both_ways("MarianMTModel", "Seq2SeqLM", variant, {**TINY, **VARIANTS[variant]})


def test_fewer_words_may_be_written_than_read(tmp_path: Path) -> None:
    sizes = {**TINY, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 41}
    model = made_by_transformers("MarianMTModel", sizes)
    model.final_logits_bias.copy_(torch.randn(1, 41) * 3)
    model.save_pretrained(tmp_path)
    ours, batch = zoo.load(tmp_path), batch_for("Seq2SeqLM", TINY)
    batch["labels"] = batch["labels"].where(batch["labels"] < 0, batch["labels"] % 41)
    assert_parity(ours, reference_of(model), batch)
    assert ours(**batch).logits.shape[-1] == 41
    embeddings = ours.backbone.embedding
    assert ours.head().projection.weight is embeddings["decoder"].weight
    assert {name: len(table.weight) for name, table in embeddings.items()} == {"encoder": 96, "decoder": 41}


def test_logits_are_shifted_by_what_the_files_say(tmp_path: Path) -> None:
    model = made_by_transformers("MarianMTModel", TINY)
    model.final_logits_bias.copy_(torch.randn(1, 96) * 3)
    model.save_pretrained(tmp_path)
    assert_parity(zoo.load(tmp_path), reference_of(model), batch_for("Seq2SeqLM", TINY))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"num_attention_heads": 5},
            "`num_attention_heads` must divide `hidden_size` in zoo.encoder_decoders.Marian, got 5 and 32",
        ),
        (
            {"hidden_size": 27, "num_attention_heads": 9, "num_decoder_attention_heads": 3},
            "`hidden_size` must be even, half of it being sines, got 27",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.encoder_decoders.Marian, got 'gelo'"),
        (
            {"decoder_vocab_size": 50},
            "`decoder_vocab_size` must be vocab_size, 96, where embeddings are shared, got 50",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.encoder_decoders.Marian(**zoo.encoder_decoders.Marian.tiny), **sizes)
    assert caught.value.message == message
