"""ELECTRA beside transformers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import zoo
from zoo.errors import SpecError

TINY: dict[str, Any] = {**zoo.encoders.Electra.tiny, "pad_token_id": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "narrow embeddings": {},
    "odd heads, wide embeddings": {"hidden_size": 27, "num_attention_heads": 9, "embedding_size": 40},
    "embeddings as wide, relu": {"embedding_size": 32, "hidden_act": "relu"},
}
HEADS = {
    "MaskedLM": "ElectraForMaskedLM",
    "ReplacedTokenDetection": "ElectraForPreTraining",
    "SequenceClassification": "ElectraForSequenceClassification",
    "TokenClassification": "ElectraForTokenClassification",
    "ExtractiveQA": "ElectraForQuestionAnswering",
    "MultipleChoice": "ElectraForMultipleChoice",
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
            {"hidden_size": 30},
            "`num_attention_heads` must divide `hidden_size` in zoo.encoders.Electra, got 4 and 30",
        ),
        (
            {"tie_word_embeddings": False},
            "`tie_word_embeddings` must be true in zoo.encoders.Electra, whose projection is its embedding",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.encoders.Electra, got 'gelo'"),
        ({"embedding_size": 0}, "`embedding_size` must be at least 1, got 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.encoders.Electra(**TINY), **sizes)
    assert caught.value.message == message
