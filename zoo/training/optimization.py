"""Optimizers from recipes: which parameters decay, and how a checkpoint remembers the choice."""

import functools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import nn
from torch.optim import Optimizer

from zoo.errors import SpecError
from zoo.specs import plain
from zoo.training.sharding import alike

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]

DEFAULT: OptimizerFactory = functools.partial(torch.optim.AdamW, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
"""AdamW, where a recipe names no optimizer. Loshchilov and Hutter, 2017: https://arxiv.org/abs/1711.05101"""


@dataclass(frozen=True)
class Absent:
    """An optimizer that a checkpoint names and whose module is not imported; only training asks for it."""

    described: dict[str, Any]

    def __call__(self, parameters: Iterable[Any]) -> NoReturn:
        """Refuses to be used.

        Raises:
            SpecError: Always.
        """
        path = self.described["class_path"]
        raise SpecError(f"`{path}` is not imported, or is no optimizer")


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Matrices, which decay as the optimizer says, and norms and biases, which do not."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = []
    for group in alike(trained):  # an optimizer that takes a group at once takes no other
        groups.append({"params": [parameter for parameter in group if parameter.ndim > 1]})
        small = [parameter for parameter in group if parameter.ndim <= 1]
        groups.append({"params": small, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def groups_for(factory: OptimizerFactory, module: nn.Module) -> list[dict[str, Any]]:
    """A model's parameters as an optimizer wants them; one that tells more apart has a `divide`."""
    groups = parameter_groups(module)
    divide = getattr(_class_of(factory), "divide", None)
    return list(divide(module, groups)) if divide else groups


def require_valid(factory: OptimizerFactory) -> None:
    """Refuses now what the optimizer would refuse when training starts.

    Raises:
        SpecError: With the argument that the optimizer speaks of.
    """
    try:
        factory([nn.Parameter(torch.zeros(1, 1))])
    except ValueError as error:
        given = (to_plain(factory) or {}).get("init_args", {})
        named = [name for name, value in given.items() if name in str(error) or str(value) in str(error)]
        at, subject = ".".join(["model.optimizer", *named[:1]]), f"`{named[0]}`" if named else "its arguments"
        raise SpecError(f"the optimizer refuses {subject}: {error}", at=at) from error


def to_plain(factory: OptimizerFactory | None) -> dict[str, Any] | None:
    """The optimizer's class path and arguments, or None where the factory does not show them."""
    if isinstance(factory, Absent):
        return factory.described
    found = _class_of(factory)
    if found is None or not isinstance(factory, functools.partial):
        return None
    return {
        "class_path": f"{found.__module__}.{found.__qualname__}",
        "init_args": plain(factory.keywords),
    }


def _class_of(factory: OptimizerFactory | None) -> type[Optimizer] | None:
    """Of a class with some of its arguments, as recipes make them."""
    if not isinstance(factory, functools.partial):
        return None
    parts = (factory.func, *factory.args)
    return next((part for part in parts if isinstance(part, type) and issubclass(part, Optimizer)), None)


def from_plain(value: dict[str, Any]) -> OptimizerFactory:
    """The factory that `to_plain` described; only modules that are imported already are looked into."""
    module, _, name = value["class_path"].rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        return Absent(value)
    return functools.partial(found, **value.get("init_args", {}))
