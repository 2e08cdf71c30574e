"""BART beside transformers."""

import json
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
    "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "more heads read than write": {},
    "more blocks write than read": {"encoder_layers": 1, "decoder_layers": 3},
    "odd heads, scaled embedding": {
        "d_model": 27, "encoder_attention_heads": 9, "decoder_attention_heads": 3, "scale_embedding": True,
    },
    "relu": {"activation_function": "relu"},
}  # fmt: skip
HEADS = {
    "Seq2SeqLM": "BartForConditionalGeneration",
    "SequenceClassification": "BartForSequenceClassification",
    "ExtractiveQA": "BartForQuestionAnswering",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **VARIANTS[variant]})


def test_logits_are_shifted_by_what_the_files_say(tmp_path: Path) -> None:
    model = made_by_transformers("BartForConditionalGeneration", TINY)
    model.final_logits_bias.copy_(torch.randn(1, 96) * 3)
    model.save_pretrained(tmp_path)
    batch = batch_for("Seq2SeqLM", TINY)
    ours = zoo.load(tmp_path)
    assert_parity(ours, reference_of(model), batch)
    zoo.save(ours, tmp_path / "ours")
    again = zoo.load(tmp_path / "ours")
    assert torch.equal(again(**batch).logits, ours(**batch).logits)
    assert not any(name == "final_logits_bias" for name, _ in ours.named_parameters())


def test_layers_that_are_dropped_are_refused(tmp_path: Path) -> None:
    made_by_transformers("BartForConditionalGeneration", TINY).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "decoder_layerdrop": 0.1}))
    with pytest.raises(SpecError) as caught:
        zoo.load(tmp_path)
    message = "`decoder_layerdrop` must be 0 for zoo.encoder_decoders.Bart, got 0.1"
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"num_attention_heads": 5},
            "`num_attention_heads` must divide `hidden_size` in zoo.encoder_decoders.Bart, got 5 and 32",
        ),
        (
            {"num_decoder_attention_heads": 5},
            "`num_decoder_attention_heads` must divide `hidden_size` in zoo.encoder_decoders.Bart, "
            "got 5 and 32",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.encoder_decoders.Bart, got 'gelo'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.encoder_decoders.Bart(**zoo.encoder_decoders.Bart.tiny), **sizes)
    assert caught.value.message == message
