"""Linear maps of few rows, as fast as memory gives their weights.

Such a product takes as long as it takes to read the weight, and torch reads it on one thread of a processor,
at a third of what memory gives (docs/performance.md). Cut into slices, which `torch.bmm` spreads over
threads, it is the same product.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_SLICES = 16
"""Slices of a weight at least; as many threads can read it."""

MOST_SLICES = 64
"""Slices at most; a weight that so few do not divide is left whole."""

FEW_ROWS = 128
"""Rows of a product that is cut at most."""

VERY_FEW_ROWS = 4
"""Rows at most for which the kernels that are best for one row are best."""


class Linear(nn.Linear):
    """`torch.nn.Linear`, and as fast as memory where few rows are mapped and no gradients are asked for."""

    def forward(self, input: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs)."""
        return product(input, self.weight, self.bias)


def product(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, by slices of the weight where that is faster.

    Args:
        x: (…, inputs).
        weight_OI: (outputs, inputs), in whichever order it lies in memory.
        bias_O: (outputs).
    """
    if not _is_read(x, weight_OI):
        return F.linear(x, weight_OI, bias_O)
    num_outputs, num_inputs = weight_OI.shape
    x_BI = x.reshape(-1, num_inputs)
    if len(x_BI) > VERY_FEW_ROWS:
        found = _rows_first(x_BI, weight_OI)
    elif weight_OI.is_contiguous():
        found = _weight_first(x_BI, weight_OI)
    else:
        found = _by_inputs(x_BI, weight_OI)
    # Contiguous, as for what is not, torch's kernel of attention is a slower one.
    found = found.contiguous().view(*x.shape[:-1], num_outputs)
    return found if bias_O is None else found.add_(bias_O)


def _is_read(x: Tensor, weight_OI: Tensor) -> bool:
    """Whether reading is what takes the time: of a plain weight in a processor's memory, for few rows."""
    return (
        not torch.compiler.is_exporting()  # a graph for any number of rows
        and 0 < x.numel() <= FEW_ROWS * weight_OI.size(1)
        and not torch.is_grad_enabled()
        and weight_OI.is_cpu
        and x.dtype == weight_OI.dtype == torch.float32
        and type(weight_OI) in (nn.Parameter, Tensor)
        and not torch.is_autocast_enabled("cpu")
    )


def _num_slices(size: int) -> int:
    if size % NUM_SLICES == 0:
        return NUM_SLICES
    return next((number for number in range(NUM_SLICES, MOST_SLICES + 1) if size % number == 0), 1)


def _rows_first(x_BI: Tensor, weight_OI: Tensor) -> Tensor:
    num_outputs, num_inputs = weight_OI.shape
    num_slices = _num_slices(num_outputs)
    weight_NPI = weight_OI.view(num_slices, -1, num_inputs)
    found_NBP = torch.bmm(x_BI.expand(num_slices, -1, -1), weight_NPI.mT)
    return found_NBP.transpose(0, 1).reshape(-1, num_outputs)


def _weight_first(x_BI: Tensor, weight_OI: Tensor) -> Tensor:
    num_outputs, num_inputs = weight_OI.shape
    num_rows, num_slices = len(x_BI), _num_slices(num_outputs)
    weight_NPI = weight_OI.view(num_slices, -1, num_inputs)
    found_NPB = torch.bmm(weight_NPI, x_BI.t().expand(num_slices, -1, -1))
    return found_NPB if num_rows == 1 else found_NPB.view(num_outputs, num_rows).t()


def _by_inputs(x_BI: Tensor, weight_OI: Tensor) -> Tensor:
    """Each slice has some of the inputs, as these lie together in a transposed weight."""
    num_outputs, num_inputs = weight_OI.shape
    num_slices = _num_slices(num_inputs)
    x_NBJ = x_BI.view(-1, num_slices, num_inputs // num_slices).transpose(0, 1)
    return torch.bmm(x_NBJ, weight_OI.t().view(num_slices, -1, num_outputs)).sum(0)
