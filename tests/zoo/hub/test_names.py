"""Tensors that are stacked in memory, or in files, and the Hub's names for each of them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from zoo.errors import CheckpointError
from zoo.hub import matching, names, weights

TABLE = {"l.{}.e.{}.w1.weight": "b.{}.gate", "l.{}.e.{}.w3.weight": "b.{}.up", "l.{}.n.{}": "b.{}.norm.{}"}
FUSED = {
    "l.{}.gate_up": ["l.{}.e.{}.w1.weight", "l.{}.e.{}.w3.weight"],
    "l.{}.older.{}": ["l.{}.n.{}"],
}


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = (nn.Parameter(torch.randn(3, 4, 2)) for _ in range(2))
        self.norm = nn.Linear(2, 2, bias=False)


def model() -> nn.Module:
    made = nn.Module()
    made.b = nn.ModuleList([Stack(), Stack()])
    return made


def one_by_one(made: nn.Module) -> dict[str, torch.Tensor]:
    found = {}
    for layer, block in enumerate(made.b):  # type: ignore[arg-type]
        for expert in range(3):
            found[f"l.{layer}.e.{expert}.w1.weight"] = block.gate[expert]
            found[f"l.{layer}.e.{expert}.w3.weight"] = block.up[expert]
        found[f"l.{layer}.n.weight"] = block.norm.weight
    return {name: tensor.detach() for name, tensor in found.items()}


def fused(made: nn.Module) -> dict[str, torch.Tensor]:
    found = {}
    for layer, block in enumerate(made.b):  # type: ignore[arg-type]
        found[f"l.{layer}.gate_up"] = torch.cat((block.gate, block.up), 1)
        found[f"l.{layer}.older.weight"] = block.norm.weight
    return {name: tensor.detach() for name, tensor in found.items()}


def test_what_is_stacked_is_told_one_by_one() -> None:
    made = model()
    assert names.renamed("b.1.gate", TABLE) == "l.1.e.{}.w1.weight"
    found, expected = names.named_tensors(made, TABLE), one_by_one(made)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("spelled", [one_by_one, fused])
def test_files_of_either_spelling_fill_stacks(spelled: object, tmp_path: Path) -> None:
    saved, made = model(), model()
    weights.write(spelled(saved), tmp_path)  # type: ignore[operator]
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    targets = names.named_targets(made, TABLE)
    match = matching.match(tmp_path, targets, fused=FUSED)
    assert match.converts  # a stack is no file's memory
    assert_close(dict(made.state_dict()), before, rtol=0, atol=0)
    matching.copy(match, targets)
    assert_close(dict(made.state_dict()), dict(saved.state_dict()), rtol=0, atol=0)


def test_files_of_the_backbone_alone_may_leave_out_a_prefix() -> None:
    tensors = [("gate_up", torch.zeros(3, 8, 2))]
    found = names.unfused(Path("f"), tensors, {"m.gate_up": ["m.e.{}.a", "m.e.{}.b"]}, "m.")
    assert [name for name, _ in found] == [f"m.e.{row}.{part}" for part in "ab" for row in range(3)]


@pytest.mark.parametrize("shape", [(), (8,), (8, 2), (3, 7, 2)])
def test_a_tensor_that_does_not_hold_several_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    save_file({"l.0.gate_up": torch.zeros(shape)}, tmp_path / weights.FILE)
    with pytest.raises(CheckpointError) as caught:
        matching.match(tmp_path, names.named_targets(model(), TABLE), fused=FUSED)
    assert str(caught.value) == (
        f"tensor `l.0.gate_up` of {tmp_path / weights.FILE} has shape {shape}, which is no 2 in one"
    )


def test_more_than_the_model_stacks_is_refused_by_name(tmp_path: Path) -> None:
    save_file({"l.0.gate_up": torch.zeros(4, 8, 2)}, tmp_path / weights.FILE)
    with pytest.raises(CheckpointError, match=r"^tensor `l.0.e.3.w1.weight` of .* has no place in the model"):
        matching.match(tmp_path, names.named_targets(model(), TABLE), fused=FUSED)


def test_a_row_that_is_missing_is_named(tmp_path: Path) -> None:
    held = one_by_one(model())
    del held["l.1.e.2.w3.weight"]
    weights.write(held, tmp_path)
    with pytest.raises(CheckpointError) as caught:
        matching.match(tmp_path, names.named_targets(model(), TABLE))
    assert caught.value.message == f"tensor `l.1.e.2.w3.weight` is missing from {tmp_path}"
