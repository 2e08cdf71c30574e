"""Mixtral beside transformers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError
from zoo.testing.parity import padded_batch

from .conftest import made_by_transformers

TINY: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
BALANCED = {"output_router_logits": True, "router_aux_loss_coef": 0.3}
VARIANTS: dict[str, dict[str, Any]] = {
    "balanced": BALANCED,
    "not balanced": {},
    "odd sizes": {
        **BALANCED, "hidden_size": 30, "intermediate_size": 7, "num_attention_heads": 9,
        "num_key_value_heads": 3, "head_dim": 10, "num_local_experts": 5, "num_experts_per_tok": 3,
    },
    "one expert of many, tied": {
        **BALANCED, "num_local_experts": 16, "num_experts_per_tok": 1, "tie_word_embeddings": True,
    },
    "all experts": {**BALANCED, "num_experts_per_tok": 4},
    "a window shorter than the text": {"sliding_window": 4},
    "a window longer than the text": {"sliding_window": 50},
    "rotations of another base": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
}  # fmt: skip
HEADS = {
    "CausalLM": "MixtralForCausalLM",
    "SequenceClassification": "MixtralForSequenceClassification",
    "TokenClassification": "MixtralForTokenClassification",
    "ExtractiveQA": "MixtralForQuestionAnswering",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **VARIANTS[variant]})


def test_files_with_stacked_experts_are_read(tmp_path: Path) -> None:
    model = made_by_transformers("MixtralForCausalLM", {**TINY, **BALANCED})
    model.save_pretrained(tmp_path, save_original_format=False)
    batch = padded_batch(96)
    output, expected = zoo.load(tmp_path)(**batch), model(**batch)
    real = batch["attention_mask"].bool()
    assert_close(output.logits[real], expected.logits[real], rtol=1e-5, atol=1e-5)
    assert_close(output.loss, expected.loss, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"num_key_value_heads": 3},
            "`num_key_value_heads` must divide `num_attention_heads` in zoo.decoders.Mixtral, got 3 and 4",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.decoders.Mixtral, got 'gelo'"),
        (
            {"num_experts_per_tok": 5},
            "`num_experts_per_tok` must be at most `num_local_experts` in zoo.decoders.Mixtral, got 5 and 4",
        ),
        ({"num_local_experts": 0}, "`num_local_experts` must be at least 1, got 0"),
        ({"sliding_window": 0}, "`sliding_window` must be at least 1, got 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.decoders.Mixtral(**zoo.decoders.Mixtral.tiny), **sizes)
    assert caught.value.message == message


def test_what_experts_read_is_shaken_as_in_transformers(tmp_path: Path) -> None:
    model = made_by_transformers("MixtralForCausalLM", {**TINY, "router_jitter_noise": 0.2})
    model.save_pretrained(tmp_path)
    ids, found = padded_batch(96)["input_ids"], []
    for shaken in (zoo.load(tmp_path), model):
        torch.manual_seed(1)
        found.append(shaken.train()(ids).logits)
    assert_close(*found, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found[0], model.eval()(ids).logits, rtol=1e-2, atol=1e-2)


RECIPE = """\
model: {class_path: zoo.modules.DecoderModule, init_args: {backbone: {class_path: zoo.decoders.Mixtral}}}
data: {class_path: zoo.data.Text, init_args: {source: text.txt, sequence_length: 2048}}
"""


def test_check_tells_all_parameters_and_those_of_each_token(command: Any, workplace: Path) -> None:
    Path("mixtral.yaml").write_text(RECIPE)
    outcome = command("check", "mixtral.yaml")
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line.strip("│ ").split(" │ ") for line in outcome.out.splitlines()]
    told = {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}
    assert told["together"] == "46,702,792,704"
    assert told["for each token"] == "12,879,925,248"
