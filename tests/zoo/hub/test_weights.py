"""Names in both directions, and memory."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import zoo
from zoo.errors import CheckpointError
from zoo.hub import matching, names, weights
from zoo.modules import DecoderModule

parts = st.from_regex(r"[a-z0-9_]{1,8}", fullmatch=True)


def llama(name: str, *shared: str) -> tuple[str, str]:
    return name.format(*shared), zoo.decoders.Llama.weights[name].format(*shared)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(entry=st.sampled_from(sorted(zoo.decoders.Llama.weights)), shared=st.tuples(parts, parts))
def test_a_name_of_ours_becomes_the_hubs(entry: str, shared: tuple[str, str]) -> None:
    hub, ours = llama(entry, *shared)
    table = zoo.decoders.Llama.weights
    assert names.renamed(ours, table) == hub
    assert names.renamed(hub, {mine: theirs for theirs, mine in table.items()}) == ours


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    stems=st.lists(
        st.tuples(parts, parts), min_size=1, max_size=5, unique_by=(lambda s: s[0], lambda s: s[1])
    ),
    data=st.data(),
)
def test_renaming_by_any_table_is_undone_by_its_inverse(
    stems: list[tuple[str, str]], data: st.DataObject
) -> None:
    table = {f"a.{hub}.{{}}.x.{{}}": f"{ours}.{{}}.y.{{}}" for hub, ours in stems}
    hub, ours = data.draw(st.sampled_from(stems))
    shared = data.draw(st.tuples(parts, parts))
    name = "{}.{}.y.{}".format(ours, *shared)
    there = names.renamed(name, table)
    assert there == "a.{}.{}.x.{}".format(hub, *shared)
    assert names.renamed(there, {mine: theirs for theirs, mine in table.items()}) == name


def test_dots_are_no_wildcards_and_a_slot_takes_one_part() -> None:
    table = {"hub.{}": "ours.a.{}"}
    for name in ("oursxa.weight", "ours.a.deep.weight", "ours.a.", "more.ours.a.weight"):
        with pytest.raises(AssertionError, match=f"has no name on the Hub for {re.escape(name)}$"):
            names.renamed(name, table)


def test_an_empty_table_keeps_names() -> None:
    assert names.renamed("any.name", {}) == "any.name"


@pytest.mark.parametrize("family", ["Llama", "TransformerLM"])
def test_every_tensor_of_a_family_has_one_name_on_the_hub(family: str) -> None:
    spec = getattr(zoo.decoders, family)
    module = DecoderModule(backbone=spec(**spec.tiny))
    module.build()
    tensors = module.hub_tensors()
    assert len(tensors) == len(module.state_dict())
    assert {id(tensor) for tensor in tensors.values()} == {id(parameter) for parameter in module.parameters()}


@pytest.mark.parametrize(
    ("source", "target"), list(itertools.product((torch.float32, torch.bfloat16, torch.float16), repeat=2))
)
def test_streaming_converts_to_the_targets_dtype(
    source: torch.dtype, target: torch.dtype, tmp_path: Path
) -> None:
    tensor = torch.randn(3, 4).to(source)
    weights.write({"a": tensor}, tmp_path)
    memory = torch.empty(3, 4, dtype=target)
    matching.copy(matching.match(tmp_path, {"a": memory}), {"a": memory})
    assert torch.equal(memory, tensor.to(target))
    assert weights.dtype_of(tmp_path) == source


def test_every_tensor_is_streamed_where_the_file_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {f"t{index}": torch.randn(5, index + 1) for index in range(9)}
    weights.write(tensors, tmp_path)
    for size in (1, 100, 10**9):
        monkeypatch.setattr(weights, "_REOPEN_BYTES", size)
        memory = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
        matching.copy(matching.match(tmp_path, memory), memory)
        assert all(torch.equal(memory[name], tensor) for name, tensor in tensors.items())


def test_a_file_of_integers_alone_counts_as_float32(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, dtype=torch.int64)}, tmp_path / "model.safetensors")
    assert weights.dtype_of(tmp_path) == torch.float32


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        weights.files_of(tmp_path)
    assert str(caught.value) == f"{tmp_path} holds no model.safetensors\n  pickled weights are not read"


MEASURE = """
import re, sys, torch, zoo
torch.set_num_threads(1)
from pathlib import Path
from zoo.modules import DecoderModule  # what a load imports is no part of the model

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

zoo.load("small")(torch.arange(8)[None])  # what the first load of all takes once
Path("/proc/self/clear_refs").write_text("5")
before = peak()
model = zoo.load("large", dtype=getattr(torch, sys.argv[1]))
print(peak() - before)
with torch.inference_mode():
    model(torch.arange(8)[None])
    for weight in model.parameters():
        weight.sum()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured by /proc")
@pytest.mark.parametrize(
    ("source", "target"),
    [(torch.float32, "float32"), (torch.bfloat16, "bfloat16"), (torch.bfloat16, "float32")],
    ids=str,
)
def test_a_load_takes_no_memory_until_its_weights_are_read_and_then_that_of_the_weights(
    source: torch.dtype, target: str, tmp_path: Path
) -> None:
    """Weights that are converted have memory of their own, and no more than that."""
    family = zoo.decoders.Llama
    scale = 1 if target == "float32" else 2
    for name, sizes in {
        "small": family.tiny,
        "large": {
            "vocab_size": 16000,
            "hidden_size": 512,
            "intermediate_size": 1408,
            "num_hidden_layers": 11 * scale,
            "num_attention_heads": 8,
        },
    }.items():
        module = DecoderModule(backbone=family(**sizes))
        module.build(source)
        zoo.save(module, tmp_path / name)
    is_converted = source != getattr(torch, target)
    size = (tmp_path / "large" / "model.safetensors").stat().st_size * (2 if is_converted else 1)
    del module
    assert size > 170e6
    words = (sys.executable, "-c", MEASURE, target)
    done = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=300)
    loaded, read = map(int, done.stdout.split())
    assert loaded <= (1.15 if is_converted else 0.2) * size, f"{loaded / size:.2f} times the weights"
    assert 0.8 * size < read <= (1.2 if is_converted else 1.1) * size, f"{read / size:.2f} times the weights"


# What a model and its files owe each other after a load


def contents(model: DecoderModule) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_holds(model: DecoderModule, expected: dict[str, torch.Tensor]) -> None:
    assert model.state_dict().keys() == expected.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_training_a_loaded_model_leaves_its_file_and_other_loads_as_they_are(
    model: DecoderModule, folder: Path
) -> None:
    before, expected = (folder / "model.safetensors").read_bytes(), contents(model)
    trained, other = zoo.load(folder), zoo.load(folder)
    optimizer = torch.optim.SGD(trained.train().parameters(), lr=0.1)
    ids = torch.arange(3, 12)[None]
    trained(ids, labels=ids).loss.backward()
    optimizer.step()
    assert not torch.equal(trained.backbone.norm.weight, other.backbone.norm.weight)
    assert (folder / "model.safetensors").read_bytes() == before
    assert_holds(other, expected)
    assert_holds(zoo.load(folder), expected)


@pytest.mark.parametrize("by", ["zoo.save", "zoo.pull", "safetensors"])
def test_files_that_are_replaced_change_no_model_that_was_loaded_from_them(
    model: DecoderModule, folder: Path, tmp_path: Path, by: str
) -> None:
    """Without copying them; nothing of the weights was looked at before."""
    expected = contents(model)
    loaded = zoo.load(folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(3.0)
    if by == "zoo.save":
        zoo.save(model, folder)
    elif by == "zoo.pull":
        zoo.pull(zoo.save(model, tmp_path / "newer"), to=folder)
    else:
        save_file({name: torch.ones(2) for name in expected}, folder / "model.safetensors")
    assert_holds(loaded, expected)


def test_a_loaded_model_is_saved_over_its_own_files(folder: Path) -> None:
    loaded = zoo.load(folder)
    with torch.no_grad():
        loaded.backbone.norm.weight.add_(1.0)
    expected = contents(loaded)
    zoo.save(loaded, folder)
    assert_holds(zoo.load(folder), expected)
    assert_holds(loaded, expected)
