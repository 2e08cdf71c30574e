"""Llama beside transformers' own, on tiny random checkpoints, and on a real one."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError
from zoo.modules import DecoderModule
from zoo.testing import assert_parity
from zoo.testing.parity import of_transformers, padded_batch, reference_of
from zoo.testing.writing import assert_writes_alike, writer_of

from .conftest import made_by_transformers

TINY = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped queries": {},
    "as many keys as queries": {"num_key_value_heads": 4},
    "one key for all": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "llama3 rope": {"rope_parameters": LLAMA3},
    "linear rope": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "own head_dim": {"head_dim": 24},
    "odd heads": {"hidden_size": 30, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 10},
}


HEADS = {
    "CausalLM": "LlamaForCausalLM",
    "SequenceClassification": "LlamaForSequenceClassification",
    "TokenClassification": "LlamaForTokenClassification",
    "ExtractiveQA": "LlamaForQuestionAnswering",
}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def reference_model(**sizes: Any) -> Any:
    return made_by_transformers("LlamaForCausalLM", {**TINY, **sizes})


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_transformers_both_ways(
    prove_both_ways: Callable[..., None], head: str, variant: str
) -> None:
    prove_both_ways(HEADS[head], head, variant, {**TINY, **TOKENS, **VARIANTS[variant]})


def test_the_dtype_of_the_files_is_kept(tmp_path: Path) -> None:
    reference_model().to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = zoo.load(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert zoo.load(tmp_path, dtype=torch.float32).backbone.embedding.weight.dtype == torch.float32


def test_old_spellings_of_rope_are_read(tmp_path: Path) -> None:
    model = reference_model(rope_parameters=LLAMA3)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_parity(zoo.load(tmp_path), reference_of(model), padded_batch(96))


def test_greedy_ids_equal_transformers_in_a_padded_batch(tmp_path: Path) -> None:
    model = reference_model()
    model.save_pretrained(tmp_path)
    ids = torch.randint(3, 96, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    mask[2, :7] = 0
    theirs = model.generate(
        ids, attention_mask=mask, max_new_tokens=20, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    ours = zoo.load(tmp_path)
    ours.generation_config = {"eos_token_id": []}
    assert ours.generate(ids, attention_mask=mask, max_new_tokens=20) == theirs[:, 9:].tolist()


def test_a_real_checkpoint_reproduces_its_reference_outputs(shared: Path) -> None:
    folder = shared / "checkpoints" / "stories260K"
    reference = json.loads((folder / "reference_outputs.json").read_text())
    model = zoo.load(folder / "hf")
    ids = reference["input_ids"]
    assert model.tokenizer.encode(reference["prompt"]) == ids
    top = model(torch.tensor([ids])).logits[0, -1].topk(5)
    assert top.indices.tolist() == [token for token, _ in reference["last_logits_top5"]]
    expected = torch.tensor([logit for _, logit in reference["last_logits_top5"]])
    assert_close(top.values, expected, rtol=0, atol=1.01e-4)  # the file has four decimals
    new = model.generate(torch.tensor([ids]), max_new_tokens=100)
    assert ids + new[0] == reference["greedy_100_ids"]
    text = model.generate(reference["prompt"], max_new_tokens=100)
    assert reference["prompt"] + text == reference["greedy_text"]


def test_a_real_tokenizer_loads_in_transformers(shared: Path, tmp_path: Path) -> None:
    model = zoo.load(shared / "checkpoints" / "stories260K" / "hf")
    zoo.save(model, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("Once upon a time", " two  spaces", "Ünïcödé 🦙"):
        assert theirs(text)["input_ids"] == model.tokenizer.encode(text)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"hidden_size": 30},
            "`num_attention_heads` must divide `hidden_size` in zoo.decoders.Llama, got 4 and 30",
        ),
        (
            {"num_key_value_heads": 3},
            "`num_key_value_heads` must divide `num_attention_heads` in zoo.decoders.Llama, got 3 and 4",
        ),
        ({"hidden_act": "gelo"}, "unknown `hidden_act` for zoo.decoders.Llama, got 'gelo'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], message: str) -> None:
    spec = zoo.decoders.Llama(**TINY)
    with pytest.raises(SpecError) as caught:
        replace(spec, **sizes)
    assert caught.value.message == message


def test_a_real_model_writes_greedily_and_by_beams_what_transformers_does(shared: Path) -> None:
    folder = shared / "checkpoints" / "stories260K" / "hf"
    module = zoo.load(folder)
    assert isinstance(module, DecoderModule)
    assert_writes_alike(module, writer_of(of_transformers(folder)[0]), num_tokens=30)
