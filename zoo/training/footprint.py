"""What training takes of each device, counted without one: memory, and bytes sent.

The networks are built without memory, their divided layers as small as a device has them, and a forward pass
is followed to see what it keeps for the backward one.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode  # on the meta device attention takes another kernel
from torch.autograd.graph import saved_tensors_hooks

from zoo.layers import Mask
from zoo.layers.losses import chunk_tokens
from zoo.layers.positions import forget_tables
from zoo.specs import BackboneSpec
from zoo.training.blocks import blocks
from zoo.training.sharding import WHOLE, divided, stacked

WIDE = 4
"""Bytes of a weight, a gradient, a moment of AdamW: float32."""


@dataclass(frozen=True)
class Plan:
    """How many devices there are, how a model is spread over them, and what each sees of the data."""

    devices: int = 1
    tensor_parallel_size: int = 1
    dtype: torch.dtype = torch.float32
    """Of weights in use, and of activations."""
    rows: int = 1
    tokens: int = 128

    @property
    def shards(self) -> int:
        """Devices that see different data and share the weights."""
        return self.devices // self.tensor_parallel_size


@dataclass(frozen=True)
class Footprint:
    """Bytes of each device."""

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    """Weights in use at once: two blocks, and what is outside of blocks; none where nothing is shared."""
    activations: float
    """Kept for the backward pass."""
    recomputed: float
    """Kept where each block keeps its input and is run again: activation checkpointing."""
    head: float
    """The gradient of the head's projection, which the loss makes in the forward pass, and logits at once."""
    sharding_traffic: float
    """Sent in a step to gather weights twice and to sum gradients once."""
    tensor_traffic: float
    """Sent in a step to sum what divided layers make."""

    def peak(self, *, checkpointing: bool = False) -> float:
        """The most that is held at once: gradients come as activations go."""
        kept = self.recomputed if checkpointing else self.activations
        return self.weights + self.optimizer + self.gathered + max(kept + self.head, self.gradients)


def footprint(spec: BackboneSpec, head: nn.Module, plan: Plan) -> Footprint:
    """What training a backbone under a head takes of each device.

    Args:
        spec: The backbone's sizes.
        head: Built on the meta device.
        plan: The devices.
    """
    before = torch.get_default_dtype()
    forget_tables()
    torch.set_default_dtype(plan.dtype)
    try:
        with FakeTensorMode():
            backbone = spec.build()
            _shrink(backbone, plan.tensor_parallel_size)
            return _footprint(backbone, spec, head, plan)
    finally:
        torch.set_default_dtype(before)
        forget_tables()


def _footprint(backbone: nn.Module, spec: BackboneSpec, head: nn.Module, plan: Plan) -> Footprint:
    watch = _Watch(backbone)
    ids = torch.zeros(plan.rows, plan.tokens, dtype=torch.long)
    watch.run(*([ids, Mask()] * (2 if spec.shape == "encoder-decoder" else 1)))
    own = _numel(backbone)
    repeated = [_numel(block) for block in blocks(backbone)]
    projection = max((part.numel() for part in head.parameters()), default=0)
    total = own + (0 if getattr(head, "tied", {}) else _numel(head))
    classes = max(1, projection // spec.hidden_size)
    logits = min(chunk_tokens(classes), plan.rows * plan.tokens) * classes
    size, narrow = plan.shards, plan.dtype.itemsize
    gathered = 2 * max(repeated, default=0) + total - sum(repeated)
    share = (size - 1) / size
    return Footprint(
        weights=WIDE * total / size,
        gradients=WIDE * total / size,
        optimizer=2 * WIDE * total / size,
        gathered=narrow * gathered if size > 1 else 0,
        activations=watch.kept(),
        recomputed=watch.block_inputs + watch.largest_block + watch.kept(within=False),
        head=WIDE * (projection + 3 * logits) + 2 * narrow * plan.rows * plan.tokens * spec.hidden_size,
        sharding_traffic=share * (narrow * (total + sum(repeated)) + WIDE * total),
        tensor_traffic=2 * (1 - 1 / plan.tensor_parallel_size) * watch.summed,
    )


def _numel(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _shrink(backbone: nn.Module, size: int) -> None:
    """Makes the parts that tensor parallelism divides as small as one device has them."""
    for layer in list(backbone.modules()):
        for name, dimension in stacked(layer).items():
            sizes = list(layer.get_parameter(name).shape)
            sizes[dimension] //= size
            layer.register_parameter(name, nn.Parameter(torch.empty(sizes)))
        for name, style in divided(layer):
            part = layer.get_submodule(name)
            if style in WHOLE:
                if style == "gathered":
                    _gather(part, size)
                continue
            if isinstance(part, nn.Embedding):
                smaller: nn.Module = nn.Embedding(part.num_embeddings, part.embedding_dim // size)
            else:
                assert isinstance(part, nn.Linear)
                outputs, inputs = part.weight.shape
                wide = (inputs, outputs // size) if style == "colwise" else (inputs // size, outputs)
                smaller = nn.Linear(*wide, bias=part.bias is not None)
            layer.set_submodule(name, smaller)


def _gather(part: nn.Module, size: int) -> None:
    """Has a part that looks at all channels see as many, though one device makes a share of them."""
    part.register_forward_pre_hook(lambda _, inputs: torch.cat(inputs * size, -1))
    part.register_forward_hook(lambda _, inputs, output: output.chunk(size, -1)[0])


class _Watch:
    """Follows a forward pass: what is kept, within blocks and outside, and what devices must sum."""

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self.block_inputs = self.largest_block = self.summed = 0
        self._parameters = {parameter.untyped_storage()._cdata for parameter in backbone.parameters()}
        self._kept: dict[int, tuple[int, bool]] = {}
        self._tensors: list[Tensor] = []
        self._is_within, self._before = False, 0
        for block in blocks(backbone):
            block.register_forward_pre_hook(self._enter)
            block.register_forward_hook(self._leave)
        for layer in backbone.modules():
            if dict(divided(layer)) or stacked(layer):
                layer.register_forward_hook(self._sum)

    def run(self, *inputs: Any) -> None:
        with saved_tensors_hooks(self._pack, lambda tensor: tensor):
            self.backbone(*inputs)

    def kept(self, *, within: bool = True) -> int:
        """Bytes, those of blocks among them or not."""
        return sum(size for size, is_within in self._kept.values() if within or not is_within)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._parameters and storage._cdata not in self._kept:
            self._kept[storage._cdata] = storage.nbytes(), self._is_within
            self._tensors.append(tensor)  # so that no other takes its place
        return tensor

    def _enter(self, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._is_within, self._before = True, self.kept()
        self.block_inputs += sum(_bytes(part) for part in inputs[:1])

    def _leave(self, block: nn.Module, inputs: Any, output: Any) -> None:
        self._is_within = False
        self.largest_block = max(self.largest_block, self.kept() - self._before)

    def _sum(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        # The output in the forward pass, the gradient of each input in the backward one.
        self.summed += _bytes(output) + sum(_bytes(part) for part in inputs)


def _bytes(value: Any) -> int:
    is_hidden = isinstance(value, Tensor) and value.is_floating_point()
    return value.numel() * value.element_size() if is_hidden else 0
