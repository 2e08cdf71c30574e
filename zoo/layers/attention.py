"""Scaled dot-product attention over heads, with grouped keys and values.

Vaswani et al., 2017: https://arxiv.org/abs/1706.03762
Ainslie et al., 2023 (grouped queries): https://arxiv.org/abs/2305.13245
"""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers.feedforward import autocast_once
from zoo.layers.masks import Mask
from zoo.layers.positions import Rope


class KeyValueCache(Protocol):
    """What a layer remembers of the tokens that it has seen."""

    def update(self, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Adds the keys and values of new tokens; returns those of all tokens."""


def attend(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    mask: Mask,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention of queries over keys, by the cheapest kernel that the mask allows.

    Args:
        q_BHTK: Queries, the last T of the S tokens.
        k_BGSK: Keys; each serves H/G heads of queries.
        v_BGSK: Values.
        mask: What each query may see.
        scale: Factor of the scores; by default head_dim ** -0.5.
        dropout: Probability of dropping a weight.
    """
    num_queries, num_keys = q_BHTK.shape[-2], k_BGSK.shape[-2]
    grouped = q_BHTK.shape[1] != k_BGSK.shape[1]
    if grouped and not q_BHTK.is_cuda:  # the CPU's fused kernel takes equal heads only
        repeats = q_BHTK.shape[1] // k_BGSK.shape[1]
        k_BGSK, v_BGSK = k_BGSK.repeat_interleave(repeats, 1), v_BGSK.repeat_interleave(repeats, 1)
        grouped = False
    causal_alone = mask.is_causal and mask.padding_BS is None and num_queries == num_keys > 1
    return F.scaled_dot_product_attention(
        q_BHTK,
        k_BGSK,
        v_BGSK,
        attn_mask=None if causal_alone else mask.dense(num_queries, num_keys, q_BHTK.device),
        dropout_p=dropout,
        is_causal=causal_alone,
        scale=scale,
        enable_gqa=grouped,
    )


class Attention(nn.Module):
    """Self-attention: project, turn by position, attend, project back.

    Args:
        hidden_size: Width of the residual stream.
        num_heads: Heads of queries.
        num_key_value_heads: Heads of keys and values; by default as many.
        head_dim: Width of a head; by default hidden_size / num_heads.
        bias: Whether the four projections have biases.
        dropout: Probability of dropping a weight in training.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        num_key_value_heads = num_key_value_heads or num_heads
        self.head_dim = head_dim or hidden_size // num_heads
        self.dropout = dropout
        self.query = nn.Linear(hidden_size, num_heads * self.head_dim, bias=bias)
        self.key = nn.Linear(hidden_size, num_key_value_heads * self.head_dim, bias=bias)
        self.value = nn.Linear(hidden_size, num_key_value_heads * self.head_dim, bias=bias)
        self.output = nn.Linear(num_heads * self.head_dim, hidden_size, bias=bias)

    def forward(
        self, x_BTD: Tensor, mask: Mask, rope: Rope | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BTD = autocast_once(x_BTD)
        q_BHTK, k_BGTK, v_BGTK = (
            projection(x_BTD).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        if rope is not None:
            q_BHTK, k_BGTK = rope.turn(q_BHTK), rope.turn(k_BGTK)
        if cache is not None:
            k_BGTK, v_BGTK = cache.update(k_BGTK, v_BGTK)
        seen_BHTK = attend(q_BHTK, k_BGTK, v_BGTK, mask, dropout=self.dropout if self.training else 0.0)
        output: Tensor = self.output(seen_BHTK.transpose(1, 2).flatten(-2))
        return output
