"""Going on under another strategy: an optimizer's state by the names of its parameters, or by their numbers.

One process numbers parameters in the order of its groups; processes that share a model keep each parameter's
state by its name, as how they group parameters depends on how these are spread.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from zoo.errors import CheckpointError

State = dict[str, Any]


def names_of(module: nn.Module, optimizer: Optimizer) -> list[list[str]]:
    """The names of the parameters of each group."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    return [[names[parameter] for parameter in group["params"]] for group in optimizer.param_groups]


def by_name(saved: State, numbered: Sequence[str], groups: Sequence[Sequence[str]]) -> State:
    """A state whose parameters have numbers, by name, in groups as they are now.

    Args:
        saved: What the optimizer of one process keeps.
        numbered: Its parameters, in order.
        groups: Those of the present optimizer's groups.
    """
    choices = {
        numbered[number]: {name: value for name, value in group.items() if name != "params"}
        for group in saved["param_groups"]
        for number in group["params"]
    }
    return {
        "state": {numbered[number]: value for number, value in saved["state"].items()},
        "param_groups": [{**choices[names[0]], "params": list(names)} for names in groups],
    }


def by_number(flat: Mapping[str, Any], groups: Sequence[Sequence[str]]) -> State:
    """A state that is kept by names, `state.NAME.KEY` and `param_groups.NAME.KEY`, with numbers.

    Args:
        flat: What processes that share a model keep.
        groups: The parameters of the present optimizer's groups.
    """
    found: dict[str, dict[str, State]] = {"state": {}, "param_groups": {}}
    for path, value in flat.items():
        kind, _, rest = path.partition(".")
        name, _, key = rest.rpartition(".")
        found[kind].setdefault(name, {})[key] = value
    order = [name for names in groups for name in names]
    numbers = {name: number for number, name in enumerate(order)}
    return {
        "state": {numbers[name]: state for name, state in found["state"].items() if name in numbers},
        "param_groups": [
            {**found["param_groups"][names[0]], "params": [numbers[name] for name in names]}
            for names in groups
        ],
    }


def take_either(optimizer: Optimizer, module: nn.Module) -> None:
    """Lets an optimizer load a state by numbers, as it keeps it, and one by names."""

    def converted(optimizer: Optimizer, state: State) -> State:
        return state if "param_groups" in state else by_number(state, names_of(module, optimizer))

    optimizer.register_load_state_dict_pre_hook(converted)


class Schedule(LambdaLR):
    """A schedule that goes on beside an optimizer that groups the same parameters otherwise."""

    def load_state_dict(self, state_dict: State) -> None:
        """Goes on from there.

        Raises:
            CheckpointError: Groups had rates of their own, and are not the same.
        """
        number, fitted = len(self.optimizer.param_groups), dict(state_dict)
        for name in ("base_lrs", "_last_lr", "lr_lambdas"):
            values = state_dict.get(name, [])
            if len(values) == number:
                continue
            if any(value != values[0] for value in values):
                raise CheckpointError(
                    "the checkpoint's groups of parameters have learning rates of their own, "
                    "and this run groups parameters otherwise",
                    hint="go on with the tensor_parallel_size that it was written with",
                )
            fitted[name] = values[:1] * number
        super().load_state_dict(fitted)
