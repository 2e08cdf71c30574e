"""Scaled dot-product attention over heads, with grouped keys and values.

Vaswani et al., 2017: https://arxiv.org/abs/1706.03762
Ainslie et al., 2023 (grouped queries): https://arxiv.org/abs/2305.13245
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from zoo.layers.feedforward import autocast_once
from zoo.layers.kernels import attend
from zoo.layers.linear import Linear
from zoo.layers.masks import Mask
from zoo.layers.positions import Rope


class KeyValueCache(Protocol):
    """What a layer remembers of the tokens that it has seen."""

    def update(self, k_BGTK: Tensor, v_BGTK: Tensor, reach: int | None = None) -> tuple[Tensor, Tensor]:
        """Adds the keys and values of new tokens; returns those of all tokens that these may see.

        Tokens that are `reach` tokens away, or farther, are seen by none, and need not be kept.
        """

    def memory(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Keys and values of a text that does not change, made the first time."""


class HeadAttention(nn.Module):
    """Self-attention over heads, whatever makes them: `project` does, and `output` puts them together.

    Args:
        head_dim: Width of a head.
        dropout: Probability of dropping a weight in training.
        scale: Factor of the scores; by default head_dim ** -0.5.
    """

    output: nn.Module

    def __init__(self, head_dim: int, *, dropout: float = 0.0, scale: float | None = None) -> None:
        super().__init__()
        self.head_dim, self.dropout, self.scale = head_dim, dropout, scale

    def forward(
        self, x_BTD: Tensor, mask: Mask, rope: Rope | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        q_BHTK, k_BGTK, v_BGTK = self.project(autocast_once(x_BTD))
        if rope is not None:
            q_BHTK, k_BGTK = rope.turn(q_BHTK), rope.turn(k_BGTK)
        if cache is not None:
            k_BGTK, v_BGTK = cache.update(k_BGTK, v_BGTK, mask.reach)
        return self._look(q_BHTK, k_BGTK, v_BGTK, mask)

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, heads, tokens, head_dim), before they are turned."""
        raise NotImplementedError

    def heads(self, x_BTD: Tensor) -> Tensor:
        """(batch, tokens, heads · head_dim) as (batch, heads, tokens, head_dim)."""
        batch, tokens, _ = x_BTD.shape
        return x_BTD.view(batch, tokens, -1, self.head_dim).transpose(1, 2)

    def _look(self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Mask) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        seen_BHTK = attend(q_BHTK, k_BGSK, v_BGSK, mask, scale=self.scale, dropout=dropout)
        output: Tensor = self.output(seen_BHTK.transpose(1, 2).flatten(-2))
        return output


class Attention(HeadAttention):
    """Self-attention whose queries, keys and values have a projection each.

    Args:
        hidden_size: Width of the residual stream.
        num_heads: Heads of queries.
        num_key_value_heads: Heads of keys and values; by default as many.
        head_dim: Width of a head; by default hidden_size / num_heads.
        bias: Whether the four projections have biases.
        dropout: Probability of dropping a weight in training.
        scale: Factor of the scores; by default head_dim ** -0.5.
    """

    tensor_parallel: ClassVar[Mapping[str, str]] = {
        "query": "colwise",
        "key": "colwise",
        "value": "colwise",
        "output": "rowwise",
    }

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = False,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__(head_dim or hidden_size // num_heads, dropout=dropout, scale=scale)
        num_key_value_heads = num_key_value_heads or num_heads
        self.query = Linear(hidden_size, num_heads * self.head_dim, bias=bias)
        self.key = Linear(hidden_size, num_key_value_heads * self.head_dim, bias=bias)
        self.value = Linear(hidden_size, num_key_value_heads * self.head_dim, bias=bias)
        self.output = Linear(num_heads * self.head_dim, hidden_size, bias=bias)

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, heads, tokens, head_dim), before they are turned.

        A family that norms them does so here.
        """
        parts = (self.query, self.key, self.value)
        q_BHTK, k_BGTK, v_BGTK = (self.heads(part(x_BTD)) for part in parts)
        return q_BHTK, k_BGTK, v_BGTK


class NormedAttention(Attention):
    """Self-attention whose queries and keys are normed head by head, before they are turned.

    Dehghani et al., 2023: https://arxiv.org/abs/2302.05442

    Args:
        hidden_size: Width of the residual stream.
        num_heads: Heads of queries.
        norm: Makes a norm of so many channels.
        choices: As `Attention` takes them.
    """

    tensor_parallel: ClassVar[Mapping[str, str]] = {
        **Attention.tensor_parallel,
        "query_norm": "headwise",
        "key_norm": "headwise",
    }

    def __init__(
        self, hidden_size: int, num_heads: int, *, norm: Callable[[int], nn.Module], **choices: Any
    ) -> None:
        super().__init__(hidden_size, num_heads, **choices)
        self.query_norm, self.key_norm = norm(self.head_dim), norm(self.head_dim)

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, heads, tokens, head_dim), before they are turned."""
        q_BHTK, k_BGTK, v_BGTK = super().project(x_BTD)
        return self.query_norm(q_BHTK), self.key_norm(k_BGTK), v_BGTK


class CrossAttention(Attention):
    """Attention of one text's tokens over another's hidden states."""

    def forward(  # type: ignore[override]
        self, x_BTD: Tensor, memory_BSD: Tensor, mask: Mask, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out.

        Args:
            x_BTD: Of the text that looks.
            memory_BSD: Of the text that is seen; while decoding, its keys and values are made once, and of
                fewer rows each is seen by as many after each other.
            mask: What is seen of it; `Mask.across` makes it.
            cache: What the layer remembers.
        """
        shape = x_BTD.shape
        x_BTD = autocast_once(x_BTD)
        if cache is not None:  # rows that look at one text, as beams do, look as tokens of one row
            x_BTD = x_BTD.reshape(len(memory_BSD), -1, shape[-1])

        def make() -> tuple[Tensor, Tensor]:
            seen_BSD = autocast_once(memory_BSD)
            return self.heads(self.key(seen_BSD)), self.heads(self.value(seen_BSD))

        k_BGSK, v_BGSK = make() if cache is None else cache.memory(make)
        return self._look(self.heads(self.query(x_BTD)), k_BGSK, v_BGSK, mask).view(shape)
