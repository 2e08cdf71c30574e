"""ModernBERT beside transformers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers

import zoo
from zoo.errors import SpecError
from zoo.testing import assert_parity
from zoo.testing.batches import batch_for
from zoo.testing.parity import reference_of

from .conftest import ENCODER_HEADS, made_by_transformers

TINY: dict[str, Any] = {
    **zoo.encoders.ModernBert.tiny,
    "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2,
}  # fmt: skip
ROPES = {
    "full_attention": {"rope_type": "default", "rope_theta": 5000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "a window shorter than the text": {},
    "a window longer than the text": {"local_attention": 50, "rope_parameters": ROPES},
    "odd heads, mean of all": {
        "hidden_size": 54, "num_attention_heads": 9,  "classifier_pooling": "mean",
    },
    "biases": {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True},
    "untied, no bias": {
        "tie_word_embeddings": False, "decoder_bias": False, "classifier_activation": "relu",
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    },
}  # fmt: skip


STDS = {"MultipleChoice": 0.2}
"""Of weights, where larger ones make gradients that float32 rounds too coarsely."""


@pytest.mark.parametrize("head", ENCODER_HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(
        f"ModernBertFor{ENCODER_HEADS[head]}",
        head,
        variant,
        {**TINY, **VARIANTS[variant]},
        STDS.get(head, 0.3),
    )


def test_old_spellings_of_windows_and_rope_are_read(tmp_path: Path) -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    sizes = {**TINY, "layer_types": kinds, "rope_parameters": ROPES}
    model = made_by_transformers("ModernBertForMaskedLM", sizes)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["layer_types"], config["rope_parameters"]
    config |= {
        "global_attn_every_n_layers": 2,
        "global_rope_theta": 5000.0,
        "local_rope_theta": 50.0,
        "position_embedding_type": "absolute",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_parity(zoo.load(tmp_path), reference_of(model), batch_for("MaskedLM", TINY))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"hidden_size": 30},
            "`num_attention_heads` must divide `hidden_size` in zoo.encoders.ModernBert, got 4 and 30",
        ),
        (
            {"hidden_activation": "gelo"},
            "unknown `hidden_activation` for zoo.encoders.ModernBert, got 'gelo'",
        ),
        (
            {"classifier_pooling": "max"},
            "unknown `classifier_pooling` for zoo.encoders.ModernBert, got 'max'",
        ),
        ({"global_attn_every_n_layers": 0}, "`global_attn_every_n_layers` must be at least 1, got 0"),
        (
            {"layer_types": ["full_attention"]},
            "`layer_types` must name one for each of 3 layers in zoo.encoders.ModernBert, got 1",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.encoders.ModernBert(**TINY), **sizes)
    assert caught.value.message == message


def test_fresh_weights_are_spread_as_those_of_transformers() -> None:
    sizes = {**TINY, "vocab_size": 600, "hidden_size": 64, "initializer_range": 0.05}
    theirs = transformers.ModernBertForMaskedLM(transformers.ModernBertConfig(**sizes))
    ours = zoo.modules.EncoderModule(backbone=zoo.encoders.ModernBert(**sizes), head=zoo.heads.MaskedLM())
    ours.build()
    fresh = ours.hub_tensors()
    for name, expected in theirs.named_parameters():
        if expected.ndim > 1:
            assert fresh[name].std().item() == pytest.approx(expected.std().item(), rel=0.06), name
            assert fresh[name].abs().max().item() == pytest.approx(expected.abs().max().item(), rel=0.02), (
                name
            )
