"""RoBERTa, XLM-RoBERTa and CamemBERT beside transformers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError
from zoo.testing.batches import batch_for

from .conftest import ENCODER_HEADS, made_by_transformers

TINY: dict[str, Any] = {**zoo.encoders.Roberta.tiny, "pad_token_id": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "odd heads, relu": {"hidden_size": 27, "num_attention_heads": 9, "hidden_act": "relu"},
    "segments, other padding": {"type_vocab_size": 2, "pad_token_id": 2, "layer_norm_eps": 1e-12},
}
NAMES = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}


@pytest.mark.parametrize("head", ENCODER_HEADS)
@pytest.mark.parametrize("model_type", NAMES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], tmp_path: Path, head: str, model_type: str, variant: str
) -> None:
    prove_both_ways(
        f"{NAMES[model_type]}For{ENCODER_HEADS[head]}", head, variant, {**TINY, **VARIANTS[variant]}
    )
    for folder in ("theirs", "ours"):
        config = json.loads((tmp_path / folder / "config.json").read_text())
        assert (config["model_type"], config["architectures"]) == (
            model_type,
            [f"{NAMES[model_type]}For{ENCODER_HEADS[head]}"],
        )


def test_padding_on_the_left_and_segments_are_as_in_transformers(tmp_path: Path) -> None:
    model = made_by_transformers("RobertaForMaskedLM", {**TINY, "type_vocab_size": 2})
    model.save_pretrained(tmp_path)
    batch = batch_for("MaskedLM", TINY)
    batch = {name: part.flip(-1) for name, part in batch.items()}
    batch["input_ids"] = batch["input_ids"].where(batch["attention_mask"] == 1, 1)
    batch["token_type_ids"] = (torch.arange(12) > 5).long().expand(3, -1)
    ours = zoo.load(tmp_path)(**batch)
    real = batch["attention_mask"].bool()
    assert_close(ours.logits[real], model(**batch).logits[real], rtol=1e-5, atol=1e-5)


def test_the_backbone_alone_keeps_its_kind(tmp_path: Path) -> None:
    made_by_transformers("CamembertForMaskedLM", TINY).roberta.save_pretrained(tmp_path)
    zoo.save(zoo.load(tmp_path), tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("camembert", ["CamembertModel"])


def test_as_many_tokens_are_read_as_there_are_positions_behind_the_paddings(tmp_path: Path) -> None:
    spec = zoo.encoders.Roberta(**TINY)
    assert spec.max_tokens == 64
    module = zoo.modules.EncoderModule(spec, zoo.heads.MaskedLM())
    module.build()
    ids = torch.full((1, 64), 5)
    assert module(ids).logits.shape == (1, 64, 96)
    with pytest.raises(IndexError):
        module(torch.full((1, 65), 5))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"hidden_size": 30},
            "`num_attention_heads` must divide `hidden_size` in zoo.encoders.Roberta, got 4 and 30",
        ),
        (
            {"tie_word_embeddings": False},
            "`tie_word_embeddings` must be true in zoo.encoders.Roberta, whose projection is its embedding",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.encoders.Roberta, got 'gelo'"),
        ({"model_type": "rowberta"}, "unknown `model_type` for zoo.encoders.Roberta, got 'rowberta'"),
        (
            {"max_position_embeddings": 2},
            "`max_position_embeddings` must be above pad_token_id + 1, got 2",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.encoders.Roberta(**TINY), **sizes)
    assert caught.value.message == message
