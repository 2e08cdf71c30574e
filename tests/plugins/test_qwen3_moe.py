"""Qwen3 with experts beside transformers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError
from zoo.testing.parity import padded_batch

from .conftest import made_by_transformers

TINY: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 56,
    "moe_intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
BALANCED = {"output_router_logits": True, "router_aux_loss_coef": 0.3}
VARIANTS: dict[str, dict[str, Any]] = {
    "balanced": BALANCED,
    "not balanced": {},
    "weights that sum to one": {**BALANCED, "norm_topk_prob": True},
    "odd sizes": {
        **BALANCED, "hidden_size": 30, "moe_intermediate_size": 7, "num_attention_heads": 9,
        "num_key_value_heads": 3, "head_dim": 10, "num_experts": 5, "num_experts_per_tok": 3,
    },
    "every second layer is sparse": {**BALANCED, "decoder_sparse_step": 2},
    "layers without experts": {**BALANCED, "mlp_only_layers": [0, 2], "attention_bias": True},
    "no layer has experts, tied": {"mlp_only_layers": [0, 1, 2], "tie_word_embeddings": True},
    "a window shorter than the text": {"use_sliding_window": True, "sliding_window": 4},
}  # fmt: skip
HEADS = {
    "CausalLM": "Qwen3MoeForCausalLM",
    "SequenceClassification": "Qwen3MoeForSequenceClassification",
    "TokenClassification": "Qwen3MoeForTokenClassification",
    "ExtractiveQA": "Qwen3MoeForQuestionAnswering",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **VARIANTS[variant]})


def test_files_with_stacked_experts_are_read(tmp_path: Path) -> None:
    model = made_by_transformers("Qwen3MoeForCausalLM", {**TINY, **BALANCED})
    model.save_pretrained(tmp_path, save_original_format=False)
    batch = padded_batch(96)
    output, expected = zoo.load(tmp_path)(**batch), model(**batch)
    real = batch["attention_mask"].bool()
    assert_close(output.logits[real], expected.logits[real], rtol=1e-5, atol=1e-5)
    assert_close(output.loss, expected.loss, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"num_key_value_heads": 3},
            "`num_key_value_heads` must divide `num_attention_heads` in zoo.decoders.Qwen3Moe, got 3 and 4",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.decoders.Qwen3Moe, got 'gelo'"),
        (
            {"num_experts_per_tok": 7},
            "`num_experts_per_tok` must be at most `num_experts` in zoo.decoders.Qwen3Moe, got 7 and 6",
        ),
        ({"decoder_sparse_step": 0}, "`decoder_sparse_step` must be at least 1, got 0"),
        ({"sliding_window": 0}, "`sliding_window` must be at least 1, got 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.decoders.Qwen3Moe(**zoo.decoders.Qwen3Moe.tiny), **sizes)
    assert caught.value.message == message
