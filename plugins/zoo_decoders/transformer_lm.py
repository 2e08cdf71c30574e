"""The classic language model: torch's encoder layers under a causal mask, with sinusoidal positions.

The blocks are `torch.nn.TransformerEncoderLayer`'s, which follow Vaswani et al., 2017:
https://arxiv.org/abs/1706.03762. No norm stands after the last of them.
"""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.generation import Cache
from zoo.layers import ACTIVATIONS, Attention, FeedForward, KeyValueCache, Mask, SinusoidalPositions
from zoo.specs import DecoderSpec, HubHead, require_divides, require_known


@dataclass(frozen=True, kw_only=True)
class TransformerLM(DecoderSpec):
    """Sizes of the classic language model; defaults are the paper's base model."""

    vocab_size: int = 32000
    hidden_size: int = 512
    intermediate_size: int = 2048
    """Width of the feed-forward."""
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    max_position_embeddings: int = 1024
    hidden_act: str = "relu"
    layer_norm_eps: float = 1e-5
    dropout: float = 0.1
    """Probability of dropping a channel after the positions, in the feed-forward and before each sum."""
    attention_dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)
        if self.hidden_size % 2:
            raise SpecError(
                f"`hidden_size` must be even, as sines and cosines take turns, got {self.hidden_size}",
                at="hidden_size",
            )

    def build(self) -> "TransformerLMDecoder":
        """The backbone, without weights of its own choosing."""
        return TransformerLMDecoder(self)

    heads = {"CausalLM": HubHead("TransformerLMForCausalLM", {"decoder.{}": "projection.{}"}, bias=True)}
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }


class TransformerLMBlock(nn.Module):
    """Attention, then feed-forward, each added and normed after."""

    def __init__(self, spec: TransformerLM) -> None:
        super().__init__()
        self.attention = Attention(
            spec.hidden_size, spec.num_attention_heads, bias=True, dropout=spec.attention_dropout
        )
        self.attention_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.feedforward = FeedForward(
            spec.hidden_size, spec.intermediate_size, spec.hidden_act, dropout=spec.dropout
        )
        self.feedforward_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, x_BTD: Tensor, mask: Mask, cache: KeyValueCache | None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BTD = self.attention_norm(x_BTD + self.dropout(self.attention(x_BTD, mask, cache=cache)))
        output_BTD: Tensor = self.feedforward_norm(x_BTD + self.dropout(self.feedforward(x_BTD)))
        return output_BTD


class TransformerLMDecoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: TransformerLM) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.positions = SinusoidalPositions(spec.max_position_embeddings, spec.hidden_size)
        self.dropout = nn.Dropout(spec.dropout)
        self.blocks = nn.ModuleList(TransformerLMBlock(spec) for _ in range(spec.num_hidden_layers))

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        positions_BT = mask.positions(input_ids, cache.length if cache else 0)
        x_BTD = self.embedding(input_ids) * math.sqrt(self.embedding.embedding_dim)
        hidden_BTD: Tensor = self.dropout(x_BTD + self.positions(positions_BT).to(x_BTD.dtype))
        mask = mask.causal()
        for index, block in enumerate(self.blocks):
            hidden_BTD = block(hidden_BTD, mask, cache.layer(index) if cache else None)
        return hidden_BTD
