"""MPNet beside transformers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError

from .conftest import ENCODER_HEADS, made_by_transformers

TINY: dict[str, Any] = {**zoo.encoders.MPNet.tiny, "pad_token_id": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "odd heads, relu": {"hidden_size": 27, "num_attention_heads": 9, "hidden_act": "relu"},
    "coarse norm": {"layer_norm_eps": 1e-3, "num_hidden_layers": 3},
}


@pytest.mark.parametrize("head", ENCODER_HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(f"MPNetFor{ENCODER_HEADS[head]}", head, variant, {**TINY, **VARIANTS[variant]})


def test_every_bucket_of_distance_is_that_of_transformers(tmp_path: Path) -> None:
    sizes = {**TINY, "max_position_embeddings": 302, "hidden_size": 8, "num_attention_heads": 2}
    model = made_by_transformers("MPNetForMaskedLM", sizes)
    model.save_pretrained(tmp_path)
    ids = torch.randint(3, 96, (1, 300))
    assert_close(zoo.load(tmp_path)(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"hidden_size": 30},
            "`num_attention_heads` must divide `hidden_size` in zoo.encoders.MPNet, got 4 and 30",
        ),
        (
            {"tie_word_embeddings": False},
            "`tie_word_embeddings` must be true in zoo.encoders.MPNet, whose projection is its embedding",
        ),
        (
            {"relative_attention_num_buckets": 16},
            "`relative_attention_num_buckets` must be 32 in zoo.encoders.MPNet, got 16",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.encoders.MPNet, got 'gelo'"),
        ({"max_position_embeddings": 2}, "`max_position_embeddings` must be above 2, got 2"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.encoders.MPNet(**TINY), **sizes)
    assert caught.value.message == message
