"""How a model is spread over processes: by what it repeats, and by what its layers say of themselves.

Families know no strategy. What a model repeats stands in an `nn.ModuleList`: its members are the blocks. A
layer that can be divided says so in `tensor_parallel`, in the Hub's words (config.json's
`base_model_tp_plan`); one that does not stays whole on every process.

Megatron's division, Shoeybi et al., 2019: https://arxiv.org/abs/1909.08053
Sharding, Rajbhandari et al., 2019: https://arxiv.org/abs/1910.02054
"""

import fnmatch
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from zoo.errors import SpecError
from zoo.training.blocks import blocks

ENTRIES = ("training_step", "validation_step", "test_step", "predict", "generate")
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


def divided(layer: nn.Module) -> Iterator[tuple[str, str]]:
    """The parts of a layer that tensor parallelism divides, by name, and how: a key of `_STYLES`."""
    for pattern, style in getattr(layer, "tensor_parallel", {}).items():
        for name, _ in layer.named_modules():
            if fnmatch.fnmatchcase(name, pattern):
                yield name, style


def divide(module: nn.Module, mesh: DeviceMesh) -> None:
    """Gives each process its columns and rows of the layers that can be divided.

    Raises:
        SpecError: The model has no such layer, or one that so many processes cannot share evenly.
    """
    num_divided = 0
    for path, layer in module.named_modules():
        plan = dict(divided(layer))
        for name, style in plan.items():
            if style not in WHOLE:
                _require_even(layer, f"{path}.{name}", layer.get_submodule(name), style, mesh.size())
        if plan:
            layer.register_forward_pre_hook(_on_every_process(mesh), with_kwargs=True)
            parallelize_module(layer, mesh, {name: _STYLES[style]() for name, style in plan.items()})
        num_divided += len(plan)
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


def _require_even(layer: nn.Module, path: str, part: nn.Module, style: str, size: int) -> None:
    weight = part.get_parameter("weight")
    # An embedding's columns are its channels, a projection's its outputs.
    channels = weight.shape[-1 if (style == "rowwise") ^ (not isinstance(part, nn.Linear)) else 0]
    together = getattr(layer, "head_dim", 1)
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
    for part in (*blocks(module), module):
        fully_shard(part, mesh=mesh, mp_policy=policy)
    for name in ENTRIES:
        if hasattr(module, name):
            register_fsdp_forward_method(module, name)


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
