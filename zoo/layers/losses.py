"""Losses that never hold the logits of all tokens at once."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""The Hub's label of a token without one."""

CHUNK_LOGITS = 2**20
"""Logits that are in memory at once; on a CPU, few enough for its cache."""

CHUNK_TOKENS = 256
"""Tokens that are taken at once at least: each time the whole gradient of the weight is gone through."""


class WithLoss(NamedTuple):
    """Hidden states and a loss of the backbone's own, such as that of experts that are used unevenly."""

    hidden_BTD: Tensor
    loss: Tensor
    """What is added to the mean over a batch's labels."""


def chunk_tokens(vocab_size: int) -> int:
    """How many tokens' logits are in memory at once."""
    return max(CHUNK_TOKENS, CHUNK_LOGITS // vocab_size)


def capped(logits: Tensor, softcap: float) -> Tensor:
    """Logits bent to lie within `softcap` of zero.

    Gemma 2, 2024: https://arxiv.org/abs/2408.00118
    """
    return torch.tanh(logits / softcap) * softcap


def linear_cross_entropy(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    labels_N: Tensor,
    bias_V: Tensor | None,
    softcap: float | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """The sum of the cross entropies of `hidden · weightᵀ + bias`, in float32, bent by `capped` if asked.

    Every row must carry a label, of whose weight a share of `smoothing` is spread over all labels. Gradients
    are made chunk by chunk in the forward pass; no logits are kept.
    """
    given = hidden_ND, weight_VD, labels_N, bias_V
    if not torch.is_grad_enabled():  # which the function below could not tell from its inputs
        given = hidden_ND.detach(), weight_VD.detach(), labels_N, None if bias_V is None else bias_V.detach()
    total: Tensor = _LinearCrossEntropy.apply(*given, softcap, smoothing)  # type: ignore[no-untyped-call]
    return total


class _LinearCrossEntropy(torch.autograd.Function):
    # torch's own function of this name sums the loss in the inputs' dtype, which in bfloat16 is 5 % off
    # (torch 2.13; docs/performance.md).

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        bias_V: Tensor | None,
        softcap: float | None,
        smoothing: float,
    ) -> Tensor:
        device = hidden_ND.device.type
        is_mixed = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if is_mixed else hidden_ND.dtype
        wide = torch.promote_types(hidden_ND.dtype, torch.float32)
        needs_hidden, needs_weight, _, needs_bias, *_ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VD, dtype=wide) if needs_weight else None
        grad_bias = torch.zeros_like(bias_V, dtype=wide) if needs_bias and bias_V is not None else None
        total = torch.zeros((), dtype=wide, device=hidden_ND.device)
        weight, bias = weight_VD.to(dtype), None if bias_V is None else bias_V.to(dtype)
        rows = chunk_tokens(len(weight_VD))
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden_ND), rows):
                hidden, labels = (
                    hidden_ND[start : start + rows].to(dtype),
                    labels_N[start : start + rows, None],
                )
                logits = F.linear(hidden, weight, bias).to(wide)
                if softcap is not None:
                    logits = capped(logits, softcap)
                probabilities = F.softmax(logits, -1)
                # The largest is exp(0) over the sum of all: the sum's logarithm takes no more exponentials.
                log_sums = logits.amax(-1, keepdim=True) - probabilities.amax(-1, keepdim=True).log()
                total += (log_sums - (1 - smoothing) * logits.gather(-1, labels)).sum()
                if smoothing:
                    total -= smoothing * logits.mean(-1).sum()
                if not (needs_hidden or needs_weight or needs_bias):
                    continue
                # The gradient of the logits: the probabilities, less one at the label.
                right = torch.full_like(labels, smoothing - 1, dtype=wide)
                slope = probabilities.scatter_add_(-1, labels, right)
                if smoothing:
                    slope -= smoothing / len(weight)
                if softcap is not None:
                    slope *= 1 - (logits / softcap).square()
                if grad_bias is not None:
                    grad_bias += slope.sum(0)
                slope = slope.to(dtype)
                if grad_hidden is not None:
                    grad_hidden[start : start + rows] = slope @ weight
                if grad_weight is not None:
                    grad_weight += slope.T @ hidden
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = hidden_ND.dtype, weight_VD.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        hidden_dtype, weight_dtype = ctx.dtypes
        return (
            None if grad_hidden is None else (grad_hidden * slope).to(hidden_dtype),
            None if grad_weight is None else (grad_weight * slope).to(weight_dtype),
            None,
            None if grad_bias is None else (grad_bias * slope).to(weight_dtype),
            None,
            None,
        )
