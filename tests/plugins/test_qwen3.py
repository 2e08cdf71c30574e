"""Qwen3 beside transformers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import zoo
from zoo.errors import SpecError

TINY: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SLIDES = {"use_sliding_window": True, "max_window_layers": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "own head_dim": {},
    "odd heads": {"hidden_size": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 10},
    "biases, tied": {"attention_bias": True, "tie_word_embeddings": True},
    "a window shorter than the text": {**SLIDES, "sliding_window": 4},
    "a window longer than the text": {**SLIDES, "sliding_window": 50},
    "layers of both kinds": {
        "use_sliding_window": True,
        "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
}
HEADS = {
    "CausalLM": "Qwen3ForCausalLM",
    "SequenceClassification": "Qwen3ForSequenceClassification",
    "TokenClassification": "Qwen3ForTokenClassification",
    "ExtractiveQA": "Qwen3ForQuestionAnswering",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **VARIANTS[variant]})


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"num_key_value_heads": 3},
            "`num_key_value_heads` must divide `num_attention_heads` in zoo.decoders.Qwen3, got 3 and 4",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.decoders.Qwen3, got 'gelo'"),
        ({"sliding_window": 0}, "`sliding_window` must be at least 1, got 0"),
        (
            {"layer_types": ["full_attention"]},
            "`layer_types` must name one for each of 2 layers in zoo.decoders.Qwen3, got 1",
        ),
        (
            {"layer_types": ["full_attention", "full"]},
            "unknown `layer_types` for zoo.decoders.Qwen3, got 'full'",
        ),
        (
            {"layer_types": ["sliding_attention"] * 2, "sliding_window": None},
            "`sliding_window` must be given where a layer slides in zoo.decoders.Qwen3",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.decoders.Qwen3(**zoo.decoders.Qwen3.tiny), **sizes)
    assert caught.value.message == message
