"""OLMo 2 beside transformers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import zoo
from zoo.errors import SpecError

TINY: dict[str, Any] = {**zoo.decoders.Olmo2.tiny, "bos_token_id": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped queries": {},
    "as many keys as queries, tied": {"num_key_value_heads": None, "tie_word_embeddings": True},
    "odd heads": {"hidden_size": 90, "num_attention_heads": 9, "num_key_value_heads": 3},
    "biases": {"attention_bias": True, "num_key_value_heads": 1},
}
HEADS = {"CausalLM": "Olmo2ForCausalLM", "SequenceClassification": "Olmo2ForSequenceClassification"}


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
            {"hidden_size": 30},
            "`num_attention_heads` must divide `hidden_size` in zoo.decoders.Olmo2, got 4 and 30",
        ),
        (
            {"num_key_value_heads": 3},
            "`num_key_value_heads` must divide `num_attention_heads` in zoo.decoders.Olmo2, got 3 and 4",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.decoders.Olmo2, got 'gelo'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.decoders.Olmo2(**zoo.decoders.Olmo2.tiny), **sizes)
    assert caught.value.message == message
