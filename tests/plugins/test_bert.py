"""BERT beside transformers."""

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

from .conftest import made_by_transformers

TINY: dict[str, Any] = {**zoo.encoders.Bert.tiny, "pad_token_id": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "three segments": {"type_vocab_size": 3},
    "relu": {"hidden_act": "relu"},
    "wide": {"intermediate_size": 7, "num_attention_heads": 8},
}
HEADS = {
    "MaskedLM": "BertForMaskedLM",
    "SequenceClassification": "BertForSequenceClassification",
    "TokenClassification": "BertForTokenClassification",
    "ExtractiveQA": "BertForQuestionAnswering",
    "MultipleChoice": "BertForMultipleChoice",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **VARIANTS[variant]})


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"])
def test_parity_of_labels_and_numbers(prove_both_ways: Callable[..., None], problem_type: str) -> None:
    head = "SequenceClassification"
    prove_both_ways(HEADS[head], head, problem_type, {**TINY, "problem_type": problem_type})


def test_segments_reach_the_model(tmp_path: Path) -> None:
    model = made_by_transformers("BertForMaskedLM", TINY)
    model.save_pretrained(tmp_path)
    batch = batch_for("MaskedLM", TINY)
    batch["token_type_ids"] = (torch.arange(12) > 5).long().expand(3, -1)
    ours = zoo.load(tmp_path)(**batch)
    real = batch["attention_mask"].bool()
    assert_close(ours.logits[real], model(**batch).logits[real], rtol=1e-5, atol=1e-5)
    del batch["token_type_ids"]
    assert not torch.allclose(ours.logits[real], model(**batch).logits[real])


def test_padding_starts_at_zero() -> None:
    module = zoo.modules.EncoderModule(zoo.encoders.Bert(**TINY), zoo.heads.MaskedLM())
    module.build()
    weight = module.backbone.get_parameter("embedding.weight")
    assert not weight[0].any()
    assert weight[1:].any(-1).all()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"hidden_size": 30},
            "`num_attention_heads` must divide `hidden_size` in zoo.encoders.Bert, got 4 and 30",
        ),
        (
            {"tie_word_embeddings": False},
            "`tie_word_embeddings` must be true in zoo.encoders.Bert, whose projection is its embedding",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.encoders.Bert, got 'gelo'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.encoders.Bert(**TINY), **sizes)
    assert caught.value.message == message
