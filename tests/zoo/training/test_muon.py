"""Muon for hidden matrices, AdamW for the rest."""

import copy
import functools
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import SpecError
from zoo.modules import DecoderModule
from zoo.training import Muon, optimization


def module_of() -> DecoderModule:
    torch.manual_seed(0)
    llama = zoo.decoders.Llama
    module = DecoderModule(
        backbone=llama(**llama.tiny), optimizer=functools.partial(Muon, lr=0.01, weight_decay=0.1)
    )
    module.build()
    return module


def optimizer_of(module: DecoderModule) -> Muon:
    optimizer = module.optimizer(optimization.groups_for(module.optimizer, module))
    assert isinstance(optimizer, Muon)
    return optimizer


def trained(module: DecoderModule, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        torch.manual_seed(step)
        input_ids = torch.randint(0, 8, (4, 12))
        loss = module(input_ids=input_ids, labels=input_ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_matrices_of_blocks_are_muons_and_the_rest_is_adamws() -> None:
    module = module_of()
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    of: dict[bool, dict[str, float]] = {True: {}, False: {}}
    for group in optimizer_of(module).param_groups:
        for parameter in group["params"]:
            of[group["is_muon"]][names.pop(id(parameter))] = group["weight_decay"]
    assert not names
    assert all(".blocks." in name and name.endswith("weight") and "norm" not in name for name in of[True])
    assert len(of[True]) == 2 * 7
    assert {name for name, decay in of[False].items() if decay} == {
        "backbone.embedding.weight",
        "heads.head.projection.weight",
    }
    assert set(of[True].values()) == {0.1}


def test_each_half_steps_as_torchs_own_optimizer() -> None:
    layer = nn.Linear(5, 3)
    twin = copy.deepcopy(layer)
    both = Muon(layer.parameters(), lr=0.02, weight_decay=0.3, momentum=0.8, betas=(0.7, 0.8), eps=1e-3)
    halves = (
        torch.optim.Muon([twin.weight], 0.02, 0.3, momentum=0.8, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([twin.bias], 0.02, (0.7, 0.8), 1e-3, 0.3),
    )
    for step in range(3):
        torch.manual_seed(step)
        for one, other in zip(layer.parameters(), twin.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        both.step()
        for half in halves:
            half.step()
    for one, other in zip(layer.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_schedule_moves_both_rates() -> None:
    module = module_of()
    optimizer = optimizer_of(module)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(module.state_dict())
    trained(module, optimizer, range(2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_it_learns() -> None:
    module = module_of()
    losses = trained(module, optimizer_of(module), range(30))
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("is_copied", [False, True])
def test_it_goes_on_where_its_state_was_saved(is_copied: bool) -> None:
    module = module_of()
    optimizer = optimizer_of(module)
    trained(module, optimizer, range(3))
    if is_copied:
        again, (module_again, optimizer_again) = None, copy.deepcopy((module, optimizer))
    else:
        again = copy.deepcopy((module.state_dict(), optimizer.state_dict()))
        module_again = module_of()
        module_again.load_state_dict(again[0])
        optimizer_again = optimizer_of(module_again)
        optimizer_again.load_state_dict(again[1])
    expected = trained(module, optimizer, range(3, 6))
    assert trained(module_again, optimizer_again, range(3, 6)) == expected
    for one, other in zip(module.parameters(), module_again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_closure_is_called_once_with_gradients() -> None:
    layer, calls = nn.Linear(2, 2), []

    def closure() -> Any:
        calls.append(torch.is_grad_enabled())
        loss = layer(torch.ones(1, 2)).sum()
        loss.backward()
        return loss

    assert Muon(layer.parameters()).step(closure) is not None
    assert calls == [True]


def test_a_checkpoint_remembers_it() -> None:
    plain = optimization.to_plain(module_of().optimizer)
    assert plain == {
        "class_path": "zoo.training.muon.Muon",
        "init_args": {"lr": 0.01, "weight_decay": 0.1},
    }
    again: Any = optimization.from_plain(plain)
    assert again.func is Muon


def test_what_torch_refuses_is_refused_with_its_argument() -> None:
    with pytest.raises(SpecError) as caught:
        optimization.require_valid(functools.partial(Muon, lr=-1.0))
    assert caught.value.at == "model.optimizer.lr"
