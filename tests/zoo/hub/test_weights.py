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
from zoo.hub import names, weights
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
    weights.stream(tmp_path, {"a": memory})
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
        weights.stream(tmp_path, memory)
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
from pathlib import Path
from zoo.modules import DecoderModule  # what a load imports is no part of the model

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

zoo.load("small")  # what the first load of all takes once
Path("/proc/self/clear_refs").write_text("5")
before = peak()
model = zoo.load("large")
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured by /proc")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loading_takes_at_most_a_fifth_more_memory_than_the_file(dtype: torch.dtype, tmp_path: Path) -> None:
    family = zoo.decoders.Llama
    scale = 1 if dtype == torch.float32 else 2
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
        module.build(dtype)
        zoo.save(module, tmp_path / name)
    del module
    size = (tmp_path / "large" / "model.safetensors").stat().st_size
    assert size > 170e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120
    )
    taken = int(done.stdout)
    assert 0.8 * size < taken <= 1.2 * size, f"{taken / size:.2f} times the file"
