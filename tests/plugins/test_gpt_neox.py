"""GPT-NeoX beside transformers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.errors import SpecError
from zoo.testing import assert_parity
from zoo.testing.parity import padded_batch, reference_of

from .conftest import made_by_transformers

TINY: dict[str, Any] = {**zoo.decoders.GPTNeoX.tiny, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def rope(share: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": share}}


VARIANTS: dict[str, dict[str, Any]] = {
    "side by side": {},
    "one after the other": {"use_parallel_residual": False},
    "all channels turn": rope(1.0),
    "odd heads, half turn": {"hidden_size": 84, "num_attention_heads": 7, **rope(0.5)},
    "tied, without biases": {"tie_word_embeddings": True, "attention_bias": False},
}
HEADS = {
    "CausalLM": "GPTNeoXForCausalLM",
    "SequenceClassification": "GPTNeoXForSequenceClassification",
    "TokenClassification": "GPTNeoXForTokenClassification",
    "ExtractiveQA": "GPTNeoXForQuestionAnswering",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **VARIANTS[variant]})


@pytest.mark.parametrize("says_nothing", [False, True])
def test_old_spellings_of_rope_are_read(tmp_path: Path, says_nothing: bool) -> None:
    sizes = {} if says_nothing else rope(0.5)
    model = made_by_transformers("GPTNeoXForCausalLM", {**TINY, **sizes})
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"]
    if not says_nothing:
        config |= {"rotary_pct": 0.5, "rotary_emb_base": 500, "rope_scaling": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_parity(zoo.load(tmp_path), reference_of(model), padded_batch(96))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"hidden_size": 30},
            "`num_attention_heads` must divide `hidden_size` in zoo.decoders.GPTNeoX, got 4 and 30",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.decoders.GPTNeoX, got 'gelo'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.decoders.GPTNeoX(**zoo.decoders.GPTNeoX.tiny), **sizes)
    assert caught.value.message == message
