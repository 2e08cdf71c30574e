"""Sparse feed-forwards: several experts, of which each token goes through a few.

Shazeer et al., 2017: https://arxiv.org/abs/1701.06538
Fedus et al., 2021 (Switch Transformer): https://arxiv.org/abs/2101.03961
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from zoo.layers.feedforward import ACTIVATIONS, autocast_once
from zoo.layers.grouped import grouped_linear


class Routing(NamedTuple):
    """Which experts tokens go through; a row is a token, padding included."""

    probabilities_NE: Tensor
    """Of every expert, float32."""
    weights_NC: Tensor
    """What the chosen ones' outputs are multiplied by, float32."""
    chosen_NC: Tensor
    """Their numbers."""


class Router(nn.Linear):
    """Chooses a token's experts: the likeliest by a softmax over all.

    Args:
        hidden_size: Width of the residual stream.
        num_experts: How many there are.
        num_chosen: How many a token goes through.
        normalizes: Whether the weights of the chosen ones sum to one.
    """

    def __init__(self, hidden_size: int, num_experts: int, num_chosen: int, *, normalizes: bool) -> None:
        super().__init__(hidden_size, num_experts, bias=False)
        self.num_chosen, self.normalizes = num_chosen, normalizes

    def forward(self, x_ND: Tensor) -> Routing:  # type: ignore[override]
        """The routing of hidden states (tokens, hidden_size)."""
        probabilities_NE = super().forward(x_ND).softmax(-1, dtype=torch.float32)
        weights_NC, chosen_NC = probabilities_NE.topk(self.num_chosen, -1)
        if self.normalizes:
            weights_NC = weights_NC / weights_NC.sum(-1, keepdim=True)
        return Routing(probabilities_NE, weights_NC, chosen_NC)


class Experts(nn.Module):
    """Gated feed-forwards side by side, their weights stacked: (experts, outputs, inputs).

    Args:
        num_experts: How many there are.
        hidden_size: Width of the residual stream.
        intermediate_size: Width in between, of each.
        activation: A name of `ACTIVATIONS`.
        std: Standard deviation of fresh weights.
    """

    tensor_parallel: ClassVar[Mapping[str, str]] = {"gate": "colwise", "up": "colwise", "down": "rowwise"}

    def __init__(
        self, num_experts: int, hidden_size: int, intermediate_size: int, activation: str, std: float
    ) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.empty(num_experts, intermediate_size, hidden_size))
        self.up = nn.Parameter(torch.empty(num_experts, intermediate_size, hidden_size))
        self.down = nn.Parameter(torch.empty(num_experts, hidden_size, intermediate_size))
        self.activation = ACTIVATIONS[activation]
        self.std = std

    def reset_parameters(self) -> None:
        """Weights from N(0, std²)."""
        for weight in (self.gate, self.up, self.down):
            nn.init.normal_(weight, std=self.std)

    def forward(self, x_ND: Tensor, weights_NC: Tensor, chosen_NC: Tensor) -> Tensor:
        """Hidden states (tokens, hidden_size) in and out: of each token, its experts' weighted sum."""
        if torch.compiler.is_exporting():
            return self._through_all(x_ND, weights_NC, chosen_NC)
        numbers_R, order_R = chosen_NC.flatten().sort()
        rows_R, every_E = (torch.arange(n, device=x_ND.device) for n in (len(order_R), len(self.gate)))
        places_R = torch.empty_like(order_R).scatter_(0, order_R, rows_R)
        ends_E = torch.searchsorted(numbers_R, every_E, right=True, out_int32=True)
        gate, up, down = (_local(weight).to(x_ND.dtype) for weight in (self.gate, self.up, self.down))
        # A look-up, for its gradients are summed in the same order each time.
        x_RD = F.embedding(order_R // chosen_NC.shape[1], x_ND)
        x_RF = self.activation(grouped_linear(x_RD, gate, ends_E)) * grouped_linear(x_RD, up, ends_E)
        made_RD = grouped_linear(x_RF, down, ends_E).index_select(0, places_R)
        weights_N1C = weights_NC.to(x_ND.dtype)[:, None]
        output_N1D: Tensor = weights_N1C @ made_RD.view(*chosen_NC.shape, -1)
        return output_N1D[:, 0]

    def _through_all(self, x_ND: Tensor, weights_NC: Tensor, chosen_NC: Tensor) -> Tensor:
        """The same, with every token through every expert: ONNX has no operator for those of one expert."""
        x_ENF = self.activation(x_ND @ self.gate.mT) * (x_ND @ self.up.mT)
        made_NED = (x_ENF @ self.down.mT).transpose(0, 1)
        weights_NE = x_ND.new_zeros(x_ND.shape[0], self.gate.shape[0])
        weights_N1E = weights_NE.scatter(1, chosen_NC, weights_NC.to(x_ND.dtype))[:, None]
        return (weights_N1E @ made_NED)[:, 0]


def _local(weight: Tensor) -> Tensor:
    """Of a tensor that is spread over processes, this one's part."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


class SparseFeedForward(nn.Module):
    """A router and its experts.

    Args:
        router: Chooses.
        experts: What it chooses from.
        jitter: Hidden states are multiplied by up to so much more or less than one, in training.
    """

    def __init__(self, router: Router, experts: Experts, *, jitter: float = 0.0) -> None:
        super().__init__()
        self.router, self.experts, self.jitter = router, experts, jitter

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Routing]:
        """Hidden states (batch, tokens, hidden_size) in and out, and how they were routed."""
        x_BTD = autocast_once(x_BTD)
        if self.training and self.jitter:
            x_BTD = x_BTD * torch.empty_like(x_BTD).uniform_(1 - self.jitter, 1 + self.jitter)
        x_ND = x_BTD.flatten(0, 1)
        routing = self.router(x_ND)
        output_BTD: Tensor = self.experts(x_ND, routing.weights_NC, routing.chosen_NC).view_as(x_BTD)
        return output_BTD, routing


def num_idle(module: nn.Module) -> int:
    """Parameters of a module that a token does not go through: those of experts that it does not choose."""
    idle = 0
    for part in module.modules():
        if isinstance(part, SparseFeedForward):
            total = sum(parameter.numel() for parameter in part.experts.parameters())
            idle += total - total * part.router.num_chosen // part.router.out_features
    return idle


def balance_loss(routings: Sequence[Routing], real_BT: Tensor | None) -> Tensor:
    """How unevenly experts are used: at best, by all alike, as many as a token goes through.

    Switch Transformer, equations 4 to 6, of all layers as if they were one with as many more tokens.

    Args:
        routings: Of the layers.
        real_BT: True for tokens that count; None: all of them.
    """
    first_NE = routings[0].probabilities_NE
    num_tokens, num_experts = first_NE.shape
    real_N = first_NE.new_ones(num_tokens) if real_BT is None else real_BT.flatten().to(first_NE.dtype)
    used_E = likely_E = first_NE.new_zeros(num_experts)
    for probabilities_NE, _, chosen_NC in routings:
        used_E = used_E.scatter_add(0, chosen_NC.flatten(), real_N.repeat_interleave(chosen_NC.shape[1]))
        likely_E = likely_E + (probabilities_NE * real_N[:, None]).sum(0)
    total = len(routings) * real_N.sum().clamp(min=1)
    return num_experts * (used_E / total * likely_E / total).sum()
