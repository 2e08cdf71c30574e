"""Losses that never hold the logits of all tokens at once."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

IGNORED = -100
"""The Hub's label of a token without one."""

CHUNK_LOGITS = 2**24
"""Logits that are in memory at once, where the loss is computed in chunks."""


def linear_cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, bias_V: Tensor | None) -> Tensor:
    """The sum of the cross entropies of `hidden · weightᵀ + bias`, in float32.

    Every row must carry a label. Rows are projected in chunks, and projected again in the backward pass.
    """
    rows = max(1, CHUNK_LOGITS // weight_VD.shape[0])
    if hidden_ND.shape[0] <= rows:
        return _chunk_loss(hidden_ND, weight_VD, labels_N, bias_V)
    losses = [
        checkpoint(_chunk_loss, hidden, weight_VD, labels, bias_V, use_reentrant=False)
        for hidden, labels in zip(hidden_ND.split(rows), labels_N.split(rows), strict=True)
    ]
    return torch.stack(losses).sum()


def _chunk_loss(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, bias_V: Tensor | None) -> Tensor:
    return F.cross_entropy(F.linear(hidden_ND, weight_VD, bias_V).float(), labels_N, reduction="sum")
