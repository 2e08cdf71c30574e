"""Products of rows that lie in groups, each with the matrix of its group.

They are operators of torch, so that the compiler, the meta device and the counter of operations take each as
one, whatever the groups' sizes are.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

_ALIGNED = 16
"""Torch's own function takes rows of so many bytes, or of a multiple."""


@torch.library.custom_op("zoo::grouped_linear", mutates_args=())
def grouped_linear(x_RD: Tensor, weight_EFD: Tensor, ends_E: Tensor) -> Tensor:
    """Each row times the transposed matrix of its group, (rows, outputs).

    Args:
        x_RD: Rows, those of a group together.
        weight_EFD: A matrix (outputs, inputs) for each group, of the rows' dtype.
        ends_E: How many rows lie in each group and those before it; int32.
    """
    if _is_native(x_RD, weight_EFD.shape[1]):
        return F.grouped_mm(x_RD, weight_EFD.transpose(-2, -1), offs=ends_E)
    output_RF = x_RD.new_empty(len(x_RD), weight_EFD.shape[1])
    for group, rows in _groups(ends_E):
        torch.mm(x_RD[rows], weight_EFD[group].T, out=output_RF[rows])
    return output_RF


@torch.library.custom_op("zoo::grouped_outer", mutates_args=())
def grouped_outer(slope_RF: Tensor, x_RD: Tensor, ends_E: Tensor) -> Tensor:
    """The gradient of `grouped_linear`'s matrices, (groups, outputs, inputs); an empty group's is zero."""
    if _is_native(slope_RF, x_RD.shape[1]):
        return F.grouped_mm(slope_RF.T, x_RD, offs=ends_E)
    output_EFD = x_RD.new_zeros(len(ends_E), slope_RF.shape[1], x_RD.shape[1])
    for group, rows in _groups(ends_E):
        torch.mm(slope_RF[rows].T, x_RD[rows], out=output_EFD[group])
    return output_EFD


def _is_native(x_RD: Tensor, *widths: int) -> bool:
    """Whether torch's own function takes such rows, to or from such widths; on GPUs it is for bfloat16."""
    known = x_RD.dtype == torch.bfloat16 or (x_RD.dtype == torch.float32 and not x_RD.is_cuda)
    sizes = (*widths, x_RD.shape[1])
    return known and len(x_RD) > 0 and all(size * x_RD.itemsize % _ALIGNED == 0 for size in sizes)


def _groups(ends_E: Tensor) -> Iterator[tuple[int, slice]]:
    start = 0
    for group, end in enumerate(ends_E.tolist()):
        if end > start:
            yield group, slice(start, end)
        start = end


@grouped_linear.register_fake
def _(x_RD: Tensor, weight_EFD: Tensor, ends_E: Tensor) -> Tensor:
    return x_RD.new_empty(len(x_RD), weight_EFD.shape[1])


@grouped_outer.register_fake
def _(slope_RF: Tensor, x_RD: Tensor, ends_E: Tensor) -> Tensor:
    return x_RD.new_empty(len(ends_E), slope_RF.shape[1], x_RD.shape[1])


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, slope_RF: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x_RD, weight_EFD, ends_E = ctx.saved_tensors
    needs_x, needs_weight, _ = ctx.needs_input_grad
    slope_RF = slope_RF.contiguous()
    grad_x = grouped_linear(slope_RF, weight_EFD.transpose(-2, -1), ends_E) if needs_x else None
    return grad_x, grouped_outer(slope_RF, x_RD, ends_E) if needs_weight else None, None


grouped_linear.register_autograd(_backward, setup_context=_keep)


@register_flop_formula([torch.ops.zoo.grouped_linear, torch.ops.zoo.grouped_outer])
def _flops(one: torch.Size, other: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    rows, width = one
    return 2 * rows * width * out_shape[-1]
