"""A family's table of names, and tensors by their names on the Hub.

Where the Hub's name has one more `{}` than ours, its last one, ours stacks the tensors numbered there.
"""

import functools
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from zoo.errors import CheckpointError

T = TypeVar("T")


def renamed(name: str, table: Mapping[str, str]) -> str:
    """A name of ours as the Hub's, by a table of Hub name to ours with `{}` for what both share.

    An empty table keeps the name. The slot of what is stacked stays.
    """
    if not table:
        return name
    for hub, ours in table.items():
        if found := match(ours, name):
            return hub.format(*found.groups(), *["{}"] * (hub.count("{}") - ours.count("{}")))
    raise AssertionError(f"the family's table has no name on the Hub for {name}")


def match(pattern: str, name: str) -> re.Match[str] | None:
    """What a name has in the slots of a pattern, if it is one of its names."""
    return _compiled(pattern).fullmatch(name)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    part = "(.+)" if pattern == "{}" else "([^.]+)"  # alone, it stands for a whole name
    return re.compile(re.escape(pattern).replace(re.escape("{}"), part))


class Row(NamedTuple):
    """A place for one of several tensors that are stacked in memory."""

    stack: Tensor
    number: int

    @property
    def shape(self) -> torch.Size:
        """Of the row."""
        return self.stack.shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        """As the stack."""
        return self.stack.dtype

    def is_floating_point(self) -> bool:
        """As the stack."""
        return self.stack.is_floating_point()


Target = Tensor | Row


def whole_or_row(tensor: Tensor, row: int | None) -> Tensor:
    """The tensor itself, or a view of one of those that it stacks."""
    return tensor if row is None else tensor[row]


def gradient_of(tensor: Tensor, row: int | None) -> Tensor | None:
    """The gradient of a tensor, where it has one."""
    return None if tensor.grad is None else whole_or_row(tensor.grad, row)


def named_tensors(
    module: nn.Module,
    table: Mapping[str, str],
    skipped: Container[str] = (),
    take: Callable[[Tensor, int | None], T | None] = whole_or_row,  # type: ignore[assignment]
) -> dict[str, T]:
    """A module's parameters and buffers by their names on the Hub, without the skipped ones.

    Args:
        module: Whose they are.
        table: Hub name to ours.
        skipped: Names of ours.
        take: What is told of a tensor, or of its row of this number; None leaves it out.
    """
    found: dict[str, T] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if name in skipped:
            continue
        hub = renamed(name, table)
        rows = range(len(tensor)) if "{}" in hub else (None,)
        taken = {hub if row is None else hub.format(row): take(tensor, row) for row in rows}
        found |= {name: value for name, value in taken.items() if value is not None}
    return found


def named_targets(
    module: nn.Module, table: Mapping[str, str], skipped: Container[str] = ()
) -> dict[str, Target]:
    """Where a file's tensors go, by their names on the Hub."""

    def take(tensor: Tensor, row: int | None) -> Target:
        return tensor if row is None else Row(tensor, row)

    return named_tensors(module, table, skipped, take)


def unfused(
    path: Path, tensors: Iterable[tuple[str, Tensor]], fused: Mapping[str, Sequence[str]], prefix: str
) -> Iterator[tuple[str, Tensor]]:
    """A file's tensors, with parts in the places of those that hold several.

    Such a one holds as many parts of one size, one after the other along the last dimension but one. Where a
    part's name has one more `{}` than its own, it stacks what is numbered there.

    Args:
        path: The file.
        tensors: Its tensors.
        fused: Names to those of parts, with `{}` for what both share.
        prefix: What the file may put before a name, or leave out there.

    Raises:
        CheckpointError: One cannot be parted so.
    """
    for name, tensor in tensors:
        pattern, slots = _fused(name, fused, prefix)
        parts = fused.get(pattern, ())
        if not parts:
            yield name, tensor
            continue
        is_stack = parts[0].count("{}") > len(slots)
        if tensor.ndim < 2 + is_stack or tensor.shape[-2] % len(parts):
            raise CheckpointError(
                f"tensor `{name}` of {path} has shape {tuple(tensor.shape)}, which is no {len(parts)} in one"
            )
        for part, piece in zip(parts, tensor.chunk(len(parts), -2), strict=True):
            for row in range(len(piece)) if is_stack else (None,):
                yield part.format(*slots, row), piece if row is None else piece[row]


def _fused(name: str, fused: Mapping[str, Sequence[str]], prefix: str) -> tuple[str, tuple[str, ...]]:
    for pattern in fused:
        for known in (name, prefix + name):
            if found := match(pattern, known):
                return pattern, found.groups()
    return "", ()
