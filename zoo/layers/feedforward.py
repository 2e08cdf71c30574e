"""What is done to each token by itself."""

import functools
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers.linear import Linear


def autocast_once(x: Tensor) -> Tensor:
    """Under autocast, what its matrix products would each cast the input to; else the input."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return x
    return x.to(torch.get_autocast_dtype(device))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": functools.partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": functools.partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}
"""config.json's `hidden_act`."""


class FeedForward(nn.Module):
    """Widen, bend, narrow.

    Vaswani et al., 2017, section 3.3: https://arxiv.org/abs/1706.03762

    Args:
        hidden_size: Width of the residual stream.
        intermediate_size: Width in between.
        activation: A name of `ACTIVATIONS`.
        bias: Whether the projections have biases.
        dropout: Probability of dropping a channel in between, in training.
    """

    tensor_parallel: ClassVar[Mapping[str, str]] = {"up": "colwise", "down": "rowwise"}

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        activation: str,
        *,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.up = Linear(hidden_size, intermediate_size, bias=bias)
        self.down = Linear(intermediate_size, hidden_size, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        output: Tensor = self.down(self.dropout(self.activation(self.up(x_BTD))))
        return output


class GatedFeedForward(nn.Module):
    """Widen twice, let one half gate the other, narrow: SwiGLU with `silu`.

    Shazeer, 2020: https://arxiv.org/abs/2002.05202

    Args:
        hidden_size: Width of the residual stream.
        intermediate_size: Width in between.
        activation: A name of `ACTIVATIONS`.
        bias: Whether the projections have biases.
    """

    tensor_parallel: ClassVar[Mapping[str, str]] = {"gate": "colwise", "up": "colwise", "down": "rowwise"}

    def __init__(
        self, hidden_size: int, intermediate_size: int, activation: str, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.gate = Linear(hidden_size, intermediate_size, bias=bias)
        self.up = Linear(hidden_size, intermediate_size, bias=bias)
        self.down = Linear(intermediate_size, hidden_size, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BTD = autocast_once(x_BTD)
        output: Tensor = self.down(self.activation(self.gate(x_BTD)) * self.up(x_BTD))
        return output
