"""What a model repeats, and how it is computed where gradients are wanted: compiled, or keeping less.

Families know nothing of it. What a model repeats stands in an `nn.ModuleList`: its members are the blocks.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from zoo.errors import SpecError
from zoo.layers import Mask

Checkpointing = Literal["none", "block", "selective"]
"""What the backward pass computes again: nothing; blocks; of blocks, all but products and attention.

Chen et al., 2016: https://arxiv.org/abs/1604.06174
Korthikanti et al., 2022 (selective): https://arxiv.org/abs/2205.05198
"""

_KEPT = (
    "mm", "addmm", "bmm", "baddbmm",
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
)  # fmt: skip


def blocks(module: nn.Module) -> list[nn.Module]:
    """What a model repeats, in order: the members of its outermost module lists."""
    found: list[nn.Module] = []
    for child in module.children():
        found += child if isinstance(child, nn.ModuleList) else blocks(child)
    return found


def checked(activation_checkpointing: Checkpointing) -> Checkpointing:
    """The same.

    Raises:
        SpecError: It is no way to keep less.
    """
    if activation_checkpointing not in (known := get_args(Checkpointing)):
        raise SpecError(
            f"`activation_checkpointing` must be one of {', '.join(known)}, got `{activation_checkpointing}`",
            at="model.activation_checkpointing",
        )
    return activation_checkpointing


def speed_up(backbone: nn.Module, compile: bool, activation_checkpointing: Checkpointing) -> None:
    """Has every block compiled, or compute again what it does not keep; names of weights stay."""
    if not compile and activation_checkpointing == "none":
        return
    for block in blocks(backbone):
        setattr(block, "forward", _Forward(block.forward, compile, activation_checkpointing))  # noqa: B010
    if compile:
        backbone.register_forward_pre_hook(_ask_masks, with_kwargs=True)


class _Forward:
    """A block's `forward`; as it is written where no gradients are wanted: any length may pass there."""

    def __init__(
        self, written: Callable[..., Any], compile: bool, activation_checkpointing: Checkpointing
    ) -> None:
        self.given = written, compile, activation_checkpointing
        self.written = self.chosen = written
        if activation_checkpointing != "none":
            # The compiler takes no other function for "nothing besides" than none at all.
            keeping: dict[str, Any] = (
                {"context_fn": _keeping} if activation_checkpointing == "selective" else {}
            )
            self.chosen = functools.partial(checkpoint, written, use_reentrant=False, **keeping)
        if compile:
            self.chosen = torch.compile(self.chosen)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return (self.chosen if torch.is_grad_enabled() else self.written)(*arguments, **keywords)

    def __reduce__(self) -> Any:  # a copy of a block computes with its own weights
        return type(self), self.given


def _keeping() -> Any:
    kept = [getattr(torch.ops.aten, name).default for name in _KEPT if hasattr(torch.ops.aten, name)]
    return create_selective_checkpoint_contexts([*kept, torch.ops.zoo.grouped_linear.default])  # type: ignore[no-untyped-call]


def _ask_masks(backbone: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """Finds out now what a compiled block would have to stop for."""
    for value in (*arguments, *keywords.values()):
        if isinstance(value, Mask):
            value.find_out()
