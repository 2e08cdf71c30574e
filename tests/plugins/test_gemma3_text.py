"""Gemma 3 beside transformers."""

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

TINY: dict[str, Any] = {**zoo.decoders.Gemma3Text.tiny, "pad_token_id": 0, "eos_token_id": 1}
ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "a window shorter than the text": {},
    "a window longer than the text": {"sliding_window": 50},
    "odd heads": {"hidden_size": 27, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 10},
    "other rotations": {"rope_parameters": ROPES},
    "logits within bounds": {"final_logit_softcapping": 0.5},
    "untied, biases": {"tie_word_embeddings": False, "attention_bias": True, "num_key_value_heads": 4},
}
STD = 0.1
"""Of the weights: in so deep a model, larger ones would make rounding larger than what is promised."""
HEADS = {"CausalLM": "Gemma3ForCausalLM", "SequenceClassification": "Gemma3TextForSequenceClassification"}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **VARIANTS[variant]}, STD)


def test_of_six_layers_the_last_sees_all_where_nothing_is_said(prove_both_ways: Callable[..., None]) -> None:
    sizes = {**TINY, "layer_types": None, "num_hidden_layers": 6}
    prove_both_ways(HEADS["CausalLM"], "CausalLM", "five to one", sizes, STD)


@pytest.mark.parametrize("every", [2, 6])
def test_old_spellings_of_windows_and_rope_are_read(tmp_path: Path, every: int) -> None:
    kinds = ["sliding_attention" if (index + 1) % every else "full_attention" for index in range(6)]
    sizes = {"num_hidden_layers": 6, "layer_types": kinds, "rope_parameters": ROPES}
    model = made_by_transformers("Gemma3ForCausalLM", {**TINY, **sizes}, STD)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["layer_types"], config["rope_parameters"]
    config |= {
        "sliding_window_pattern": every,
        "rope_theta": 5000.0,
        "rope_local_base_freq": 50.0,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_parity(zoo.load(tmp_path), reference_of(model), padded_batch(96))


def test_scores_that_are_capped_are_refused(tmp_path: Path) -> None:
    model = made_by_transformers("Gemma3ForCausalLM", {**TINY, "attn_logit_softcapping": 50.0})
    model.save_pretrained(tmp_path)
    with pytest.raises(SpecError) as caught:
        zoo.load(tmp_path)
    message = "`attn_logit_softcapping` must be null for zoo.decoders.Gemma3Text, got 50.0"
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"num_key_value_heads": 3},
            "`num_key_value_heads` must divide `num_attention_heads` in zoo.decoders.Gemma3Text, got 3 and 4",
        ),
        (
            {"hidden_activation": "gelo"},
            "unknown `hidden_activation` for zoo.decoders.Gemma3Text, got 'gelo'",
        ),
        (
            {"num_hidden_layers": 3},
            "`layer_types` must name one for each of 3 layers in zoo.decoders.Gemma3Text, got 2",
        ),
        ({"final_logit_softcapping": 0.0}, "`final_logit_softcapping` must be above 0, got 0.0"),
        ({"sliding_window_pattern": 0}, "`sliding_window_pattern` must be at least 1, got 0"),
        (
            {"sliding_window": None},
            "`sliding_window` must be given where a layer slides in zoo.decoders.Gemma3Text",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.decoders.Gemma3Text(**TINY), **sizes)
    assert caught.value.message == message
