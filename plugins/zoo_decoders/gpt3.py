"""GPT-3: GPT-2's block, every other layer of which sees only what is near.

Brown et al., 2020: https://arxiv.org/abs/2005.14165. Its sizes are those of table 2.1. How wide the band is,
the paper does not say; the default is that of GPT-Neo, https://github.com/EleutherAI/gpt-neo.
"""

import math
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from zoo.errors import SpecError, did_you_mean
from zoo.generation import Cache
from zoo.layers import ACTIVATIONS, Attention, FeedForward, KeyValueCache, Mask
from zoo.specs import DecoderSpec, HubHead, require_known, require_layer_types

SIZES = {
    "125M": (12, 768, 12, 64),
    "350M": (24, 1024, 16, 64),
    "760M": (24, 1536, 16, 96),
    "1.3B": (24, 2048, 24, 128),
    "2.7B": (32, 2560, 32, 80),
    "6.7B": (32, 4096, 32, 128),
    "13B": (40, 5140, 40, 128),
    "175B": (96, 12288, 96, 128),
}
"""The paper's names to layers, width, heads, and a head's width."""


@dataclass(frozen=True, kw_only=True)
class GPT3(DecoderSpec):
    """Sizes of a GPT-3; defaults are its smallest, of 125 million parameters."""

    vocab_size: int = 50257
    hidden_size: int = 768
    intermediate_size: int | None = None
    """Width of the feed-forward; None: 4 · hidden_size."""
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    head_dim: int = 64
    """Width of a head, whatever the heads' number and hidden_size are."""
    max_position_embeddings: int = 2048
    hidden_act: str = "gelu_new"
    layer_norm_eps: float = 1e-5
    sliding_window: int | None = 256
    """How many tokens, itself included, a token of a banded layer sees."""
    layer_types: list[str] | None = None
    """Of each layer, `full_attention` or `sliding_attention`; None: they take turns, if there is a band."""
    attention_dropout: float = 0.0
    dropout: float = 0.0
    """Probability of dropping a channel of the embedding, and of what a part adds."""
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known(self, "hidden_act", ACTIVATIONS)
        require_layer_types(self)

    @classmethod
    def sized(cls, name: str) -> Self:
        """One of the paper's eight models: 125M, 350M, 760M, 1.3B, 2.7B, 6.7B, 13B or 175B.

        Raises:
            SpecError: It is none of them.
        """
        if name not in SIZES:
            raise SpecError(f"there is no GPT-3 of {name}", hint=did_you_mean(name, SIZES))
        layers, width, heads, head_dim = SIZES[name]
        return cls(num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, head_dim=head_dim)

    def reach(self, index: int) -> int | None:
        """How many tokens a layer's token sees; None: all."""
        kinds = self.layer_types
        is_banded = bool(index % 2) if kinds is None else kinds[index] == "sliding_attention"
        return self.sliding_window if is_banded else None

    def build(self) -> "GPT3Decoder":
        """The backbone, without weights of its own choosing."""
        return GPT3Decoder(self)

    heads = {"CausalLM": HubHead("GPT3ForCausalLM", {"projection.{}": "projection.{}"})}
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "head_dim": 12,
        "max_position_embeddings": 64,
        "sliding_window": 4,
    }


class GPT3Block(nn.Module):
    """Attention, then feed-forward, each normed before and added after."""

    def __init__(self, spec: GPT3) -> None:
        super().__init__()
        width = spec.hidden_size
        self.attention_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.attention = Attention(
            width,
            spec.num_attention_heads,
            head_dim=spec.head_dim,
            bias=True,
            dropout=spec.attention_dropout,
        )
        self.feedforward_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.feedforward = FeedForward(width, spec.intermediate_size or 4 * width, spec.hidden_act)
        self.dropout = nn.Dropout(spec.dropout)
        self.residual_std = spec.initializer_range / math.sqrt(2 * spec.num_hidden_layers)

    def reset_parameters(self) -> None:
        """What each block adds starts smaller, the deeper the model, as in GPT-2."""
        for part in (self.attention.output, self.feedforward.down):
            nn.init.normal_(part.get_parameter("weight"), std=self.residual_std)

    def forward(self, x_BTD: Tensor, mask: Mask, cache: KeyValueCache | None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), mask, cache=cache))
        output_BTD: Tensor = x_BTD + self.dropout(self.feedforward(self.feedforward_norm(x_BTD)))
        return output_BTD


class GPT3Decoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: GPT3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.positions = nn.Embedding(spec.max_position_embeddings, spec.hidden_size)
        self.dropout = nn.Dropout(spec.dropout)
        self.reaches = [spec.reach(index) for index in range(spec.num_hidden_layers)]
        self.blocks = nn.ModuleList(GPT3Block(spec) for _ in self.reaches)
        self.norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        positions_BT = mask.positions(input_ids, cache.length if cache else 0)
        x_BTD = self.dropout(self.embedding(input_ids) + self.positions(positions_BT))
        views = {reach: mask.causal().within(reach) for reach in self.reaches}
        for index, (block, reach) in enumerate(zip(self.blocks, self.reaches, strict=True)):
            x_BTD = block(x_BTD, views[reach], cache.layer(index) if cache else None)
        output_BTD: Tensor = self.norm(x_BTD)
        return output_BTD
