"""The Transformer: the encoder-decoder with which it began, normed after each part.

Vaswani et al., 2017: https://arxiv.org/abs/1706.03762. No norm stands after the last block of either stack,
and one matrix embeds what is read and what is written, and projects onto the vocabulary (section 3.4). The
projections of attention have biases, as in `torch.nn.MultiheadAttention`.
"""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.generation import Cache
from zoo.layers import (
    ACTIVATIONS,
    Attention,
    CrossAttention,
    FeedForward,
    KeyValueCache,
    Mask,
    SinusoidalPositions,
)
from zoo.specs import EncoderDecoderSpec, HubHead, require_divides, require_known


@dataclass(frozen=True, kw_only=True)
class Transformer(EncoderDecoderSpec):
    """Sizes of a Transformer; defaults are the paper's base model."""

    vocab_size: int = 37000
    hidden_size: int = 512
    intermediate_size: int = 2048
    """Width of the feed-forward."""
    num_hidden_layers: int = 6
    """Blocks of the encoder."""
    num_decoder_layers: int | None = None
    """Blocks of the decoder; None: as many as of the encoder."""
    num_attention_heads: int = 8
    max_position_embeddings: int = 1024
    hidden_act: str = "relu"
    layer_norm_eps: float = 1e-5
    dropout: float = 0.1
    """Probability of dropping a channel after the positions and before each sum."""
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    """Probability of dropping a channel within the feed-forward."""
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)
        if self.hidden_size % 2:
            raise SpecError(
                f"`hidden_size` must be even, as sines and cosines take turns, got {self.hidden_size}",
                at="hidden_size",
            )

    def build(self) -> "TransformerEncoderDecoder":
        """The backbone, without weights of its own choosing."""
        return TransformerEncoderDecoder(self)

    heads = {"Seq2SeqLM": HubHead("TransformerForSeq2SeqLM", {"projection.{}": "projection.{}"})}
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }


class EncoderBlock(nn.Module):
    """Attention, then feed-forward, each added and normed after."""

    def __init__(self, spec: Transformer) -> None:
        super().__init__()
        width, heads = spec.hidden_size, spec.num_attention_heads
        self.attention = Attention(width, heads, bias=True, dropout=spec.attention_dropout)
        self.attention_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.feedforward = FeedForward(
            width, spec.intermediate_size, spec.hidden_act, dropout=spec.activation_dropout
        )
        self.feedforward_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, x_BSD: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BSD = self.attention_norm(x_BSD + self.dropout(self.attention(x_BSD, mask)))
        output_BSD: Tensor = self.feedforward_norm(x_BSD + self.dropout(self.feedforward(x_BSD)))
        return output_BSD


class DecoderBlock(EncoderBlock):
    """The same, with a look at what was read in between."""

    def __init__(self, spec: Transformer) -> None:
        super().__init__(spec)
        self.cross_attention = CrossAttention(
            spec.hidden_size, spec.num_attention_heads, bias=True, dropout=spec.attention_dropout
        )
        self.cross_attention_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)

    def forward(  # type: ignore[override]
        self, x_BTD: Tensor, mask: Mask, memory_BSD: Tensor, memory_mask: Mask, cache: KeyValueCache | None
    ) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out, beside those of what was read."""
        x_BTD = self.attention_norm(x_BTD + self.dropout(self.attention(x_BTD, mask, cache=cache)))
        seen_BTD = self.cross_attention(x_BTD, memory_BSD, memory_mask, cache)
        x_BTD = self.cross_attention_norm(x_BTD + self.dropout(seen_BTD))
        output_BTD: Tensor = self.feedforward_norm(x_BTD + self.dropout(self.feedforward(x_BTD)))
        return output_BTD


class TransformerEncoderDecoder(nn.Module):
    """Ids of what is read and of what is written to the latter's hidden states."""

    def __init__(self, spec: Transformer) -> None:
        super().__init__()
        num_encoder, num_decoder = spec.num_hidden_layers, spec.num_decoder_layers
        num_decoder = num_encoder if num_decoder is None else num_decoder
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.positions = SinusoidalPositions(spec.max_position_embeddings, spec.hidden_size)
        self.dropout = nn.Dropout(spec.dropout)
        self.encoder = nn.ModuleList(EncoderBlock(spec) for _ in range(num_encoder))
        self.decoder = nn.ModuleList(DecoderBlock(spec) for _ in range(num_decoder))

    def forward(self, input_ids: Tensor, mask: Mask, decoder_input_ids: Tensor, decoder_mask: Mask) -> Tensor:
        """Hidden states (batch, decoder tokens, hidden_size) of what is written about what is read."""
        return self.decode(decoder_input_ids, decoder_mask, self.encode(input_ids, mask), mask)

    def encode(self, input_ids: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing all of its row."""
        x_BSD = self._embed(input_ids, mask.positions(input_ids))
        for block in self.encoder:
            x_BSD = block(x_BSD, mask)
        return x_BSD

    def decode(
        self,
        decoder_input_ids: Tensor,
        mask: Mask,
        memory: Tensor,
        memory_mask: Mask,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states of ids, each seeing those before it and what `encode` made of another text."""
        x_BTD = self._embed(
            decoder_input_ids, mask.positions(decoder_input_ids, cache.length if cache else 0)
        )
        mask, memory_mask = mask.causal(), memory_mask.across(mask)
        for index, block in enumerate(self.decoder):
            x_BTD = block(x_BTD, mask, memory, memory_mask, cache.layer(index) if cache else None)
        return x_BTD

    def _embed(self, ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(ids_BT) * math.sqrt(self.embedding.embedding_dim)
        embedded_BTD: Tensor = self.dropout(x_BTD + self.positions(positions_BT).to(x_BTD.dtype))
        return embedded_BTD
