"""Fresh weights, and modules that were built without memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.overrides import TorchFunctionMode

from zoo.errors import SpecError


def part_of(whole: Tensor, target: Tensor) -> Tensor:
    """A tensor as `target` is spread over processes: each keeps its own part, nothing is sent."""
    if not isinstance(target, DTensor):
        return whole
    return distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None)


def fill_row(target: Tensor, row: int, tensor: Tensor) -> None:
    """Copies a tensor to a row of a stack; of one that is spread, to this process's part of it."""
    if not isinstance(target, DTensor):
        target[row].copy_(tensor)
        return
    mesh, local = target.device_mesh, target.to_local()
    rows, channels = [], []  # how rows are spread, and how each row is
    for place in target.placements:
        dim = place.dim if isinstance(place, Shard) else None
        rows.append(Shard(0) if dim == 0 else Replicate())
        channels.append(Shard(dim - 1) if dim else Replicate())
    numbers = torch.arange(len(target), device=local.device)
    mine = distribute_tensor(numbers, mesh, rows, src_data_rank=None).to_local()
    part = distribute_tensor(tensor, mesh, channels, src_data_rank=None).to_local()
    for index in (mine == row).nonzero().flatten().tolist():
        local[index].copy_(part)


def fill(target: Tensor, make: Callable[[Tensor], object]) -> None:
    """Has a tensor filled as a whole one; of one that is spread, each process keeps its own part.

    A start that depends on the values themselves, such as `trunc_normal_`, which draws anew what lies too far
    out, needs it: each process would look at its own part alone, and draw more or less often than the others.
    """
    if not isinstance(target, DTensor):
        make(target)
        return
    whole = torch.empty(target.shape, dtype=target.dtype, device=target.device)
    make(whole)
    target.copy_(part_of(whole, target))


def _fills(func: Callable[..., Any]) -> bool:
    """Whether a function of torch gives a tensor fresh values."""
    return getattr(func, "__module__", None) == "torch.nn.init" or func.__name__ in ("normal_", "uniform_")


class _DrawnWhole(TorchFunctionMode):
    """Draws a tensor that is spread over processes whole, so that any number of them draws alike."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = dict(kwargs or {})
        target = args[0] if args else named.pop("tensor", None)  # as torch.nn.init calls it
        if not _fills(func) or not isinstance(target, DTensor):
            return func(*args, **(kwargs or {}))
        fill(target, lambda whole: func(whole, *args[1:], **named))
        return target


@torch.no_grad()
def initialize(module: nn.Module, std: float) -> None:
    """Draws fresh weights: matrices and embeddings from N(0, std²), biases and padding zero, norms one.

    A part that starts otherwise says so in its `reset_parameters`, called after those of the parts in it. A
    model that is spread over processes gets the weights that one process would draw.

    Raises:
        SpecError: A part has weights of its own and does not say how they start.
    """
    with _DrawnWhole():
        for part in reversed(list(module.modules())):  # the inner ones first
            _initialize(part, std)


def _initialize(part: nn.Module, std: float) -> None:
    if isinstance(part, nn.Linear | nn.Conv1d | nn.Embedding):
        padding = part.padding_idx if isinstance(part, nn.Embedding) else None

        def draw(weight: Tensor) -> None:
            weight.normal_(std=std)
            if padding is not None:
                weight[padding].zero_()

        fill(part.weight, draw)
        if not isinstance(part, nn.Embedding) and part.bias is not None:
            nn.init.zeros_(part.bias)
    elif callable(reset := getattr(part, "reset_parameters", None)):
        reset()
    elif own := [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
        raise SpecError(
            f"{type(part).__name__} has `{own[0][0]}` and no `reset_parameters`, "
            "so nothing gives it a fresh value"
        )


class _Undrawn(TorchFunctionMode):
    """Leaves out what draws numbers for tensors that have no memory; torch would still compute how many."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if _fills(func):
            return args[0] if args else named["tensor"]
        return func(*args, **named)


@contextmanager
def without_memory() -> Iterator[None]:
    """Modules that are built here have parameters on the meta device."""
    with torch.device("meta"), _Undrawn():
        yield


def materialize(module: nn.Module, device: torch.device | str | None = None) -> None:
    """Gives memory to a module that was built on the meta device; its parameters are then to be filled."""
    unsaved = dict(module.named_buffers()).keys() - module.state_dict().keys()
    assert not unsaved, f"no checkpoint fills {sorted(unsaved)}: compute such tables where they are used"
    module.to_empty(device=device or torch.get_default_device())
