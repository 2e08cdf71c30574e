"""T5 beside transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError

from .conftest import made_by_transformers

TINY: dict[str, Any] = {
    "vocab_size": 96, "d_model": 32, "d_kv": 12, "d_ff": 56, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
# So few buckets and so short a distance that every kind of bucket is met in a batch.
NEAR = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "1.0": {},
    "1.0, near": NEAR,
    "1.1 and Flan": GATED,
    "1.1 and Flan, near": {**GATED, **NEAR},
    "more decoder blocks": {"num_decoder_layers": 3},
    "gated silu": {"feed_forward_proj": "gated-silu"},
}
STD = 0.15
"""Of the weights: scores are not scaled, so larger ones would make every softmax a choice of one."""
HEADS = {
    "Seq2SeqLM": "T5ForConditionalGeneration",
    "SequenceClassification": "T5ForSequenceClassification",
    "ExtractiveQA": "T5ForQuestionAnswering",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **VARIANTS[variant]}, STD)


def test_greedy_ids_equal_transformers_in_a_padded_batch(tmp_path: Path) -> None:
    model = made_by_transformers("T5ForConditionalGeneration", TINY, STD)
    model.save_pretrained(tmp_path)
    ids = torch.randint(3, 96, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(9) < torch.tensor([[9], [5], [2]])).long()
    theirs = model.generate(ids, attention_mask=mask, max_new_tokens=20, do_sample=False, eos_token_id=None)
    ours = zoo.load(tmp_path)
    ours.generation_config = {"eos_token_id": []}
    assert ours.generate(ids, attention_mask=mask, max_new_tokens=20) == theirs[:, 1:].tolist()


def test_what_is_untied_says_so_to_readers_old_and_new(tmp_path: Path) -> None:
    made_by_transformers("T5ForConditionalGeneration", {**TINY, **GATED}, STD).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["scale_decoder_outputs"] is False
    zoo.save(zoo.load(tmp_path), tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert "scale_decoder_outputs" not in config
    read = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert read.config.scale_decoder_outputs is False
    assert not torch.equal(read.lm_head.weight, read.shared.weight)


def test_files_without_the_prefix_and_with_what_is_never_read_are_read(tmp_path: Path) -> None:
    made_by_transformers("T5ForSequenceClassification", TINY, STD).save_pretrained(tmp_path)
    whole = zoo.load(tmp_path).hub_tensors()
    tensors = {name.removeprefix("transformer."): tensor.detach() for name, tensor in whole.items()}
    unread = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    save_file({**tensors, unread: torch.ones(32, 4)}, tmp_path / "model.safetensors")
    again = zoo.load(tmp_path).hub_tensors()
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_fresh_queries_are_small_in_place_of_a_scale() -> None:
    sizes = {"hidden_size": 64, "head_dim": 16, "num_attention_heads": 8, "intermediate_size": 256}
    module = zoo.modules.EncoderDecoderModule(
        zoo.encoder_decoders.T5(**{**zoo.encoder_decoders.T5.tiny, **sizes})
    )
    torch.manual_seed(0)
    module.build()
    for name, std in (
        ("embedding", 1.0),
        ("decoder.blocks.1.attention.query", (64 * 16) ** -0.5),
        ("decoder.blocks.1.cross_attention.key", 64**-0.5),
        ("encoder.blocks.0.attention.output", 128**-0.5),
        ("encoder.blocks.0.feedforward.down", 256**-0.5),
        ("encoder.positions.bias", 64**-0.5),
    ):
        weight = module.backbone.get_submodule(name).weight
        assert_close(weight.std().item(), std, rtol=0.1, atol=0)


def test_an_unknown_feed_forward_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        zoo.encoder_decoders.T5(feed_forward_proj="gated-gelo")
    message = "unknown `feed_forward_proj` for zoo.encoder_decoders.T5, got 'gated-gelo'"
    assert caught.value.message == message
