"""Which parameters decay, and how a checkpoint remembers the optimizer."""

import functools
import json
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import SpecError
from zoo.modules import DecoderModule
from zoo.training import optimization


@pytest.mark.parametrize("family", ["Llama", "TransformerLM"])
def test_norms_and_biases_never_decay(family: str) -> None:
    spec = getattr(zoo.decoders, family)
    module = DecoderModule(backbone=spec(**spec.tiny))
    module.build()
    decaying, others = optimization.parameter_groups(module)
    assert "weight_decay" not in decaying
    assert others["weight_decay"] == 0
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for parameter in others["params"]:
        assert names.pop(id(parameter)).endswith(("bias", "norm.weight"))
    for parameter in decaying["params"]:
        assert not names.pop(id(parameter)).endswith(("bias", "norm.weight"))
    assert not names


def test_frozen_and_tied_parameters_are_given_once_or_not_at_all() -> None:
    llama = zoo.decoders.Llama
    module = DecoderModule(backbone=llama(**{**llama.tiny, "tie_word_embeddings": True}))
    module.build()
    module.backbone.norm.requires_grad_(False)
    given = [parameter for group in optimization.parameter_groups(module) for parameter in group["params"]]
    assert len(given) == len(set(given)) == len(list(module.parameters())) - 1
    assert not any(parameter is module.backbone.norm.weight for parameter in given)


def test_decay_shrinks_matrices_alone() -> None:
    layer = nn.Linear(3, 3)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    optimizer = torch.optim.SGD(optimization.parameter_groups(layer), lr=0.1, weight_decay=0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert (layer.weight < 1).all()
    assert (layer.bias == 1).all()


def test_the_default_is_adamw() -> None:
    optimizer = optimization.DEFAULT(optimization.parameter_groups(nn.Linear(2, 2)))
    assert type(optimizer) is torch.optim.AdamW
    decaying, others = optimizer.param_groups
    assert (decaying["lr"], decaying["betas"], decaying["weight_decay"]) == (3e-4, (0.9, 0.95), 0.1)
    assert (others["lr"], others["betas"], others["weight_decay"]) == (3e-4, (0.9, 0.95), 0.0)


def mine(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr)


@pytest.mark.parametrize(
    "factory",
    [
        optimization.DEFAULT,
        functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        functools.partial(torch.optim.Adam),
    ],
)
def test_an_optimizer_goes_round_as_plain_values(factory: Any) -> None:
    plain = json.loads(json.dumps(optimization.to_plain(factory)))
    again: Any = optimization.from_plain(plain)
    assert again.func is factory.func
    assert json.dumps(optimization.to_plain(again)) == json.dumps(plain)
    groups = [factory_([nn.Parameter(torch.ones(2))]).param_groups[0] for factory_ in (factory, again)]
    for group in groups:
        del group["params"]
    assert json.dumps(groups[0]) == json.dumps(groups[1])


def test_a_factory_that_does_not_show_its_optimizer_is_not_remembered() -> None:
    assert optimization.to_plain(None) is None
    assert optimization.to_plain(lambda parameters: torch.optim.SGD(parameters, lr=0.1)) is None
    assert optimization.to_plain(functools.partial(mine, lr=0.1)) is None


def test_another_optimizer_gets_none_of_adamws_arguments() -> None:
    llama = zoo.decoders.Llama
    module = DecoderModule(backbone=llama(**llama.tiny), optimizer=functools.partial(torch.optim.SGD, lr=0.1))
    assert module.hparams["optimizer"] == {
        "class_path": "torch.optim.sgd.SGD",
        "init_args": {"lr": 0.1},
    }
    assert (
        module.optimizer(optimization.parameter_groups(nn.Linear(2, 2))).param_groups[0]["weight_decay"] == 0
    )


@pytest.mark.parametrize("path", ["not_imported.Mine", "torch.optim.adamw.Gone", "os.system", "Mine"])
def test_an_optimizer_that_is_not_to_be_had_is_asked_for_in_training_alone(path: str) -> None:
    plain = {"class_path": path, "init_args": {"lr": 0.5}}
    factory = optimization.from_plain(plain)
    assert optimization.to_plain(factory) == plain
    with pytest.raises(SpecError) as caught:
        factory([nn.Parameter(torch.ones(2))])
    assert caught.value.message == f"`{path}` is not imported, or is no optimizer"
