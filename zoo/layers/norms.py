"""Norms that torch lacks or does otherwise."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Divides by the root mean square, computed in float32 at least, then scales in the input's dtype.

    Zhang and Sennrich, 2019: https://arxiv.org/abs/1910.07467. `torch.nn.RMSNorm` scales before it casts
    back, which differs from Llama's in bfloat16.
    """

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(hidden_size))

    def reset_parameters(self) -> None:
        """Starts at one."""
        nn.init.ones_(self.weight)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Hidden states (…, hidden_size) in and out."""
        if x_BTD.dtype == self.weight.dtype == torch.float32:  # in any order the same, and one call
            return F.rms_norm(x_BTD, self.weight.shape, self.weight, self.eps)
        wide = x_BTD.to(torch.promote_types(x_BTD.dtype, torch.float32))
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x_BTD.dtype)
