"""GPT-2 beside transformers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import zoo

from .conftest import made_by_transformers

TINY: dict[str, Any] = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "own width": {"n_inner": 56},
    "untied": {"tie_word_embeddings": False},
    "scores by layer": {"scale_attn_by_inverse_layer_idx": True},
    "no scale": {"scale_attn_weights": False},
    "exact gelu": {"activation_function": "gelu"},
}
HEADS = {
    "CausalLM": "GPT2LMHeadModel",
    "SequenceClassification": "GPT2ForSequenceClassification",
    "TokenClassification": "GPT2ForTokenClassification",
    "ExtractiveQA": "GPT2ForQuestionAnswering",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **TOKENS, **VARIANTS[variant]})


def test_greedy_ids_equal_transformers_in_a_padded_batch(tmp_path: Path) -> None:
    model = made_by_transformers("GPT2LMHeadModel", {**TINY, **TOKENS})
    model.save_pretrained(tmp_path)
    ids = torch.randint(3, 96, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    mask[2, :7] = 0
    theirs = model.generate(
        ids, attention_mask=mask, max_new_tokens=20, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    ours = zoo.load(tmp_path)
    ours.generation_config = {"eos_token_id": []}
    assert ours.generate(ids, attention_mask=mask, max_new_tokens=20) == theirs[:, 9:].tolist()


def test_config_json_speaks_the_hubs_words_in_both_directions(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "max_position_embeddings": 64, "residual_dropout": 0.25,
    }  # fmt: skip
    spec = zoo.decoders.GPT2(**sizes)
    written = spec.to_hub()
    assert (written["n_embd"], written["n_layer"], written["resid_pdrop"]) == (32, 3, 0.25)
    assert "hidden_size" not in written
    assert zoo.decoders.GPT2(**zoo.decoders.GPT2.of_config(written)) == spec


def test_what_is_added_to_the_residual_starts_smaller() -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 8, "num_attention_heads": 4, "vocab_size": 96}
    module = zoo.modules.DecoderModule(zoo.decoders.GPT2(**sizes))
    torch.manual_seed(0)
    module.build()
    for index in range(8):
        for name, std in (
            ("attention.query_key_value", 0.02),
            ("attention.output", 0.02 / math.sqrt(16)),
            ("feedforward.up", 0.02),
            ("feedforward.down", 0.02 / math.sqrt(16)),
        ):
            part = module.backbone.get_submodule(f"blocks.{index}.{name}")
            assert_close(part.weight.std().item(), std, rtol=0.1, atol=0)
            assert not part.bias.any()
