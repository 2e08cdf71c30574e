"""DeBERTa beside transformers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError
from zoo.hub.config import read_config, write_json
from zoo.hub.weights import files_of, write

from .conftest import ENCODER_HEADS, made_by_transformers

TINY: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
V3: dict[str, Any] = {
    "relative_attention": True, "position_buckets": 6, "pos_att_type": ["p2c", "c2p"], "share_att_key": True,
    "norm_rel_ebd": "layer_norm", "position_biased_input": False, "max_relative_positions": -1,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "absolute positions, segments": {"type_vocab_size": 3},
    "version 3": V3,
    "version 2, with a convolution": {**V3, "conv_kernel_size": 3, "conv_act": "gelu"},
    "a wide convolution in groups": {**V3, "conv_kernel_size": 5, "conv_groups": 4},
    "own projections of distances": {**V3, "share_att_key": False, "norm_rel_ebd": "none"},
    "content to distance alone, odd heads": {
        **V3, "pos_att_type": "c2p", "share_att_key": False, "hidden_size": 27, "num_attention_heads": 9,
    },
    "distance to content alone": {**V3, "pos_att_type": ["p2c"]},
    "each distance for itself, few of them": {
        **V3, "position_buckets": -1, "max_relative_positions": 5, "position_biased_input": True,
    },
    "narrow embeddings": {**V3, "embedding_size": 20, "attention_head_size": 8},
}  # fmt: skip


@pytest.mark.parametrize("head", ENCODER_HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(f"DebertaV2For{ENCODER_HEADS[head]}", head, variant, {**TINY, **VARIANTS[variant]})


def test_parity_of_the_head_as_the_authors_spell_it(prove_both_ways: Callable[..., None]) -> None:
    sizes = {**TINY, **V3, "legacy": False, "hidden_act": "relu"}
    prove_both_ways("DebertaV2ForMaskedLM", "MaskedLM", "the authors' names", sizes)


def test_every_bucket_of_distance_is_that_of_transformers(tmp_path: Path) -> None:
    sizes = {**TINY, **V3, "position_buckets": 32, "max_position_embeddings": 400}
    model = made_by_transformers(
        "DebertaV2ForMaskedLM", {**sizes, "hidden_size": 8, "num_attention_heads": 2}
    )
    model.save_pretrained(tmp_path)
    ids = torch.randint(3, 96, (1, 400))
    assert_close(zoo.load(tmp_path)(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [3, 5])
def test_a_convolution_never_reaches_another_document_or_padding(size: int) -> None:
    model = zoo.modules.EncoderModule(
        backbone=zoo.encoders.DebertaV2(**{**zoo.encoders.DebertaV2.tiny, "conv_kernel_size": size}),
        head=zoo.heads.MaskedLM(),
    )
    model.build()
    model.eval()
    first, second = torch.randint(1, 96, (1, 7)), torch.randint(1, 96, (1, 5))
    packed = torch.cat((first, second, torch.randint(1, 96, (1, 2))), 1)
    documents = torch.tensor([[1] * 7 + [2] * 5 + [0] * 2])
    together = model(input_ids=packed, attention_mask=documents).logits
    assert_close(together[:, :7], model(input_ids=first).logits, rtol=1e-5, atol=1e-6)
    assert_close(together[:, 7:12], model(input_ids=second).logits, rtol=1e-5, atol=1e-6)
    padded = model(input_ids=packed[:, :9], attention_mask=(documents == 1).long()[:, :9]).logits
    assert_close(padded[:, :7], together[:, :7], rtol=1e-5, atol=1e-6)


def test_files_as_microsoft_wrote_them_are_read(tmp_path: Path) -> None:
    model = made_by_transformers("DebertaV2ForMaskedLM", {**TINY, **V3, "legacy": False})
    model.save_pretrained(tmp_path)
    (path,) = files_of(tmp_path)
    tensors = load_file(path)
    tensors["deberta.embeddings.position_embeddings.weight"] = torch.zeros(64, 32)
    tensors["mask_predictions.dense.weight"] = torch.zeros(32, 32)
    write(tensors, tmp_path)
    config = read_config(tmp_path)
    kept = {
        key: value for key, value in config.items() if key not in ("embedding_size", "pooler_hidden_size")
    }
    write_json({**kept, "pos_att_type": "p2c|c2p", "attention_head_size": 8}, tmp_path / "config.json")
    ids = torch.randint(3, 96, (2, 9))
    assert_close(zoo.load(tmp_path)(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)


def test_a_head_as_wide_as_none_in_the_reference_is_refused(tmp_path: Path) -> None:
    made_by_transformers("DebertaV2ForMaskedLM", TINY).save_pretrained(tmp_path)
    write_json({**read_config(tmp_path), "attention_head_size": 12}, tmp_path / "config.json")
    with pytest.raises(SpecError) as caught:
        zoo.load(tmp_path)
    message = "`attention_head_size` must be hidden_size / num_attention_heads, got 12 for 4 heads"
    assert caught.value.message == message


def test_the_authors_head_needs_embeddings_as_wide_as_the_model() -> None:
    spec = zoo.encoders.DebertaV2(**{**zoo.encoders.DebertaV2.tiny, "legacy": False, "embedding_size": 20})
    with pytest.raises(SpecError) as caught:
        zoo.heads.MaskedLM().build(spec)
    message = "`legacy` must be true where `embedding_size` is not hidden_size, got 20"
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"hidden_size": 30},
            "`num_attention_heads` must divide `hidden_size` in zoo.encoders.DebertaV2, got 4 and 30",
        ),
        (
            {"tie_word_embeddings": False},
            "`tie_word_embeddings` must be true in zoo.encoders.DebertaV2, whose projection is its embedding",
        ),
        (
            {"pos_att_type": ["c2p", "p2p"]},
            "`pos_att_type` must name c2p, p2c or both for zoo.encoders.DebertaV2, got 'p2p'",
        ),
        ({"conv_kernel_size": 4}, "`conv_kernel_size` must be odd, or 0, got 4"),
        ({"conv_kernel_size": -1}, "`conv_kernel_size` must be at least 0, got -1"),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.encoders.DebertaV2, got 'gelo'"),
        ({"conv_act": "gelo"}, "unknown `conv_act` for zoo.encoders.DebertaV2, got 'gelo'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(zoo.encoders.DebertaV2(**zoo.encoders.DebertaV2.tiny), **sizes)
    assert caught.value.message == message
