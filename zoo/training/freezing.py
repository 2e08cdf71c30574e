"""What of a model is trained, and how fast: parameters that stay, and layers that move less."""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from zoo.errors import SpecError, did_you_mean

Group = dict[str, Any]


def freeze(module: nn.Module, patterns: Iterable[str]) -> None:
    """Has parameters stay as they are.

    Args:
        module: Whose they are.
        patterns: Globs of their names, as `named_parameters` tells them: `backbone.blocks.0.*`.

    Raises:
        SpecError: One matches nothing.
    """
    parameters = dict(module.named_parameters())
    for pattern in patterns:
        found = [parameter for name, parameter in parameters.items() if fnmatchcase(name, pattern)]
        if not found:
            globs = {re.sub(r"\.\d+\.", ".*.", name) for name in parameters}
            raise SpecError(
                f"no parameter's name matches `{pattern}`",
                at="model.freeze",
                hint=did_you_mean(pattern, globs),
            )
        for parameter in found:
            parameter.requires_grad = False


def trained_share(module: nn.Module) -> tuple[int, int]:
    """How many numbers are trained, and how many there are; two of four bits lie in a byte."""
    sizes = [
        (parameter.numel() * (2 if hasattr(parameter, "quant_state") else 1), parameter.requires_grad)
        for parameter in module.parameters()
    ]
    return sum(size for size, is_trained in sizes if is_trained), sum(size for size, _ in sizes)


def require_decay(decay: float) -> float:
    """The same.

    Raises:
        SpecError: It does not lie in (0, 1].
    """
    if not 0 < decay <= 1:
        raise SpecError(f"`layer_decay` must lie in (0, 1], got {decay}", at="model.layer_decay")
    return decay


def decayed(backbone: nn.Module, groups: Iterable[Group], decay: float) -> Iterator[Group]:
    """Parts groups of a model's parameters by how far each stands below the head.

    Clark et al., 2020, section 3: https://arxiv.org/abs/2003.10555

    Args:
        backbone: Of `n` blocks: the last one's learning rate is multiplied by `decay`, the first one's by
            `decay ** n`, that of what stands before them by `decay ** (n + 1)`; what comes after has all.
        groups: As an optimizer takes them; each part says `lr_factor`.
        decay: From 0 to 1.
    """
    below = dict(_below(backbone))
    for group in groups:
        parts: dict[int, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(below.get(parameter, 0), []).append(parameter)
        for number, parameters in sorted(parts.items()):
            yield {**group, "params": parameters, "lr_factor": decay**number}


def _below(module: nn.Module) -> Iterator[tuple[nn.Parameter, int]]:
    """How many steps below the head each parameter stands."""
    number = max((len(part) for part in module.modules() if isinstance(part, nn.ModuleList)), default=0)
    before = number + 1 if number else 0
    for parameter in module.parameters(recurse=False):
        yield parameter, before
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            before = 0
            for index, block in enumerate(child):
                yield from ((parameter, len(child) - index) for parameter in block.parameters())
        elif any(isinstance(part, nn.ModuleList) for part in child.modules()):
            yield from _below(child)
            before = 0
        else:
            yield from ((parameter, before) for parameter in child.parameters())


def scale_rates(param_groups: Iterable[Mapping[str, Any]]) -> None:
    """Multiplies the learning rate of each group of an optimizer by its `lr_factor`."""
    for group in param_groups:
        group["lr"] *= group.pop("lr_factor", 1.0)  # type: ignore[index,attr-defined]
