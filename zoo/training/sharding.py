"""How a model is spread over processes: by what it repeats, and by what its layers say of themselves.

Families know no strategy. What a model repeats stands in an `nn.ModuleList`: its members are the blocks. A
layer that can be divided says so in `tensor_parallel`, in the Hub's words (config.json's
`base_model_tp_plan`), of its parts or of stacks that are its own weights; one that does not stays whole on
every process.

Megatron's division, Shoeybi et al., 2019: https://arxiv.org/abs/1909.08053
Sharding, Rajbhandari et al., 2019: https://arxiv.org/abs/1910.02054
"""

import fnmatch
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from zoo.errors import SpecError
from zoo.training.blocks import blocks

ENTRIES = ("training_step", "validation_step", "test_step", "look", "predict", "generate")
"""Methods, besides `forward`, by which a module's weights come into use."""


class Gathered(ParallelStyle):
    """For what looks at all channels of a product that is divided by columns, as a norm over all heads does.

    Every process has the whole layer: the product's columns are gathered before it, and shared out after.
    """

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def gather(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
            shared = DTensor.from_local(inputs[0], device_mesh, [Shard(-1)])
            return shared.redistribute(placements=[Replicate()])

        def share(_: nn.Module, inputs: tuple[Tensor, ...], output: DTensor) -> Tensor:
            return output.redistribute(placements=[Shard(-1)]).to_local()

        module.register_forward_pre_hook(gather)
        module.register_forward_hook(share)
        return distribute_module(module, device_mesh)


_STYLES: dict[str, Callable[[], ParallelStyle]] = {
    "colwise": ColwiseParallel,
    "rowwise": RowwiseParallel,
    "headwise": lambda: SequenceParallel(sequence_dim=1, use_local_output=True),
    "gathered": Gathered,
}
"""The third is for what does the same to each head: whole everywhere, its gradients summed over all heads."""
WHOLE = ("headwise", "gathered")
"""Styles whose layers stay whole on every process."""


_DIMENSIONS = {"colwise": 1, "rowwise": 2}
"""Along which weights are divided that are stacked: (number, outputs, inputs)."""


def divided(layer: nn.Module) -> Iterator[tuple[str, str]]:
    """The parts of a layer that tensor parallelism divides, by name, and how: a key of `_STYLES`."""
    for pattern, style in getattr(layer, "tensor_parallel", {}).items():
        for name, _ in layer.named_modules():
            if fnmatch.fnmatchcase(name, pattern):
                yield name, style


def stacked(layer: nn.Module) -> dict[str, int]:
    """The weights of a layer's own that tensor parallelism divides, by name, and along which dimension."""
    own = dict(layer.named_parameters(recurse=False))
    styles = getattr(layer, "tensor_parallel", {})
    return {name: _DIMENSIONS[style] for name, style in styles.items() if name in own}


def divide(module: nn.Module, mesh: DeviceMesh) -> None:
    """Gives each process its columns and rows of the layers that can be divided.

    Raises:
        SpecError: The model has no such layer, or one that so many processes cannot share evenly.
    """
    num_divided = 0
    for path, layer in module.named_modules():
        plan, stack = dict(divided(layer)), stacked(layer)
        for name, style in plan.items():
            if style not in WHOLE:
                channels = _channels(layer.get_submodule(name), style)
                _require_even(f"{path}.{name}", channels, mesh.size(), getattr(layer, "head_dim", 1))
        for name, dimension in stack.items():
            _require_even(f"{path}.{name}", layer.get_parameter(name).shape[dimension], mesh.size())
        if plan or stack:
            layer.register_forward_pre_hook(_on_every_process(mesh), with_kwargs=True)
        if plan:
            parallelize_module(layer, mesh, {name: _STYLES[style]() for name, style in plan.items()})
        if stack:
            _divide_stack(layer, mesh, stack)
        num_divided += len(plan) + len(stack)
    if not num_divided:
        why = getattr(getattr(module, "spec", None), "undivided", "")
        raise SpecError(
            f"none of the model's layers can be divided by tensor parallelism{why and f': {why}'}",
            at="trainer.strategy.init_args.tensor_parallel_size",
            hint="set tensor_parallel_size to 1, and shard the model",
        )


def _on_every_process(mesh: DeviceMesh) -> Any:
    """A layer's inputs are the same on all processes; said once, their gradients are summed once."""

    def told(value: Any) -> Any:
        is_hidden = isinstance(value, Tensor) and not isinstance(value, DTensor) and value.is_floating_point()
        return DTensor.from_local(value, mesh, [Replicate()], run_check=False) if is_hidden else value

    def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return tuple(map(told, args)), {name: told(value) for name, value in kwargs.items()}

    return hook


def _divide_stack(layer: nn.Module, mesh: DeviceMesh, stack: dict[str, int]) -> None:
    """Has each process compute with its part of every weight; what they make is summed."""
    for name, dimension in stack.items():
        mine = distribute_tensor(layer.get_parameter(name), mesh, [Shard(dimension)])
        layer.register_parameter(name, nn.Parameter(mine))

    def take(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            value.to_local(grad_placements=[Partial()]) if isinstance(value, DTensor) else value
            for value in inputs
        )

    def add_up(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return DTensor.from_local(output, mesh, [Partial()], run_check=False).full_tensor()

    layer.register_forward_pre_hook(take)
    layer.register_forward_hook(add_up)


def _channels(part: nn.Module, style: str) -> int:
    weight = part.get_parameter("weight")
    # An embedding's columns are its channels, a projection's its outputs.
    return weight.shape[-1 if (style == "rowwise") ^ (not isinstance(part, nn.Linear)) else 0]


def _require_even(path: str, channels: int, size: int, together: int = 1) -> None:
    if channels % (together * size):
        kind = f"heads of {together} channels" if together > 1 else "channels"
        raise SpecError(
            f"`{path}` has {channels // together} {kind}, which {size} processes cannot share evenly",
            at="trainer.strategy.init_args.tensor_parallel_size",
            hint=f"use a tensor_parallel_size that divides {channels // together}",
        )


def shard(module: nn.Module, mesh: DeviceMesh, dtype: torch.dtype | None) -> None:
    """Spreads the parameters of each block, and then what is left, over the processes of a mesh.

    Args:
        module: What is trained; its weights come into use by `forward` and `ENTRIES`.
        mesh: Of the processes that see different data.
        dtype: In which parameters are gathered, and used; by default their own. Gradients are summed in
            float32 wherever they are gathered in something narrower.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=dtype,
        reduce_dtype=torch.float32 if dtype else None,
        cast_forward_inputs=False,  # it would copy masks, which keep what was made of them
    )
    along = functools.partial(_along, mesh.size())
    for part in (*blocks(module), module):
        fully_shard(part, mesh=mesh, mp_policy=policy, shard_placement_fn=along)
    for name in ENTRIES:
        if hasattr(module, name):
            register_fsdp_forward_method(module, name)


def _along(size: int, parameter: nn.Parameter) -> Shard | None:
    """Along which dimension a parameter is shared: the first, or, of a stack of too few, another."""
    if parameter.ndim < 3 or len(parameter) >= size:
        return None
    taken = [place.dim for place in getattr(parameter, "placements", ()) if isinstance(place, Shard)]
    sizes = enumerate(parameter.shape)
    even = [dim for dim, number in sizes if dim and dim not in taken and number % size == 0]
    return Shard(even[0]) if even else None


def spread(module: nn.Module, mesh: DeviceMesh, dtype: torch.dtype | None) -> None:
    """Divides and shards a model that has no memory yet, as a mesh of both kinds says."""
    data, tensor = mesh["data_parallel"], mesh["tensor_parallel"]
    if tensor.size() > 1:
        divide(module, tensor)
    if data.size() > 1 or tensor.size() == 1:
        shard(module, data, dtype)


def place_among(trainer: Any) -> tuple[int, int]:
    """A process's number, and how many read rows of their own: those that share tensors share rows."""
    strategy = getattr(trainer, "strategy", None)
    places: dict[str, int] = getattr(strategy, "distributed_sampler_kwargs", None) or {}
    return places.get("rank", 0), places.get("num_replicas", 1)


def gathered_in(trainer: L.Trainer) -> torch.dtype | None:
    """The dtype in which a precision has parameters gathered; None: their own."""
    return torch.bfloat16 if str(trainer.precision).startswith("bf16") else None


def own_class(module: nn.Module) -> type[object]:
    """The class that somebody wrote; sharding gives a module one of its own on top."""
    return next(kind for kind in type(module).__mro__ if not issubclass(kind, FSDPModule))


def alike(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Parameters in groups, each spread over the same processes."""
    groups: dict[object, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.device_mesh if isinstance(parameter, DTensor) else None, []).append(
            parameter
        )
    return list(groups.values())
