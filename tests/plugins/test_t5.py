"""T5 beside transformers."""

from collections.abc import Callable
from typing import Any

import pytest

TINY: dict[str, Any] = {
    "vocab_size": 96, "d_model": 32, "d_kv": 12, "d_ff": 56, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
# So few buckets and so short a distance that every kind of bucket is met in a batch.
NEAR = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "1.0": {},
    "1.0, near": NEAR,
    "1.1 and Flan": GATED,
    "1.1 and Flan, near": {**GATED, **NEAR},
    "more decoder blocks": {"num_decoder_layers": 3},
    "gated silu": {"feed_forward_proj": "gated-silu"},
}
STD = 0.15
"""Of the weights: scores are not scaled, so larger ones would make every softmax a choice of one."""
HEADS = {"Seq2SeqLM": "T5ForConditionalGeneration", "SequenceClassification": "T5ForSequenceClassification"}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **VARIANTS[variant]}, STD)
