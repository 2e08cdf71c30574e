"""YourPlugin: an encoder-decoder normed before each part, with sinusoidal positions.

It works as it stands. To make it yours: name the paper here, sizes in the spec, their order
in the blocks. Layers stand in `zoo.layers`; one of your own is an `nn.Module` in this file.
"""

from dataclasses import dataclass

from torch import Tensor, nn

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
from zoo.specs import EncoderDecoderSpec, require_divides, require_known


@dataclass(frozen=True, kw_only=True)
class YourPlugin(EncoderDecoderSpec):
    """Sizes, under the names that config.json has. A field of your own gets a text below it."""

    vocab_size: int = 32000
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 6
    """Blocks of the encoder, and of the decoder."""
    num_attention_heads: int = 8
    max_position_embeddings: int = 1024
    hidden_act: str = "relu"
    layer_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)

    def build(self) -> "YourPluginEncoderDecoder":
        """The backbone, without weights of its own choosing."""
        return YourPluginEncoderDecoder(self)

    # Where there are checkpoints, `weights` maps their names to ours: "enc.layers.{}.{}": "encoder.{}.{}".


class EncoderBlock(nn.Module):
    """Attention, then feed-forward, each normed before and added after."""

    def __init__(self, spec: YourPlugin) -> None:
        super().__init__()
        width = spec.hidden_size
        self.attention_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.attention = Attention(width, spec.num_attention_heads)
        self.feedforward_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.feedforward = FeedForward(width, spec.intermediate_size, spec.hidden_act)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x = x + self.attention(self.attention_norm(x), mask)
        output: Tensor = x + self.feedforward(self.feedforward_norm(x))
        return output


class DecoderBlock(EncoderBlock):
    """The same, with a look at what was read in between."""

    def __init__(self, spec: YourPlugin) -> None:
        super().__init__(spec)
        self.cross_attention_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.cross_attention = CrossAttention(spec.hidden_size, spec.num_attention_heads)

    def forward(  # type: ignore[override]
        self, x: Tensor, mask: Mask, memory: Tensor, memory_mask: Mask, cache: KeyValueCache | None
    ) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out, beside those of what was read."""
        x = x + self.attention(self.attention_norm(x), mask, cache=cache)
        x = x + self.cross_attention(self.cross_attention_norm(x), memory, memory_mask, cache)
        output: Tensor = x + self.feedforward(self.feedforward_norm(x))
        return output


class YourPluginEncoderDecoder(nn.Module):
    """Ids of what is read and of what is written to the latter's hidden states."""

    def __init__(self, spec: YourPlugin) -> None:
        super().__init__()
        depth = spec.num_hidden_layers
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.positions = SinusoidalPositions(spec.max_position_embeddings, spec.hidden_size)
        self.encoder = nn.ModuleList(EncoderBlock(spec) for _ in range(depth))
        self.encoder_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.decoder = nn.ModuleList(DecoderBlock(spec) for _ in range(depth))
        self.decoder_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)

    def forward(self, input_ids: Tensor, mask: Mask, decoder_input_ids: Tensor, decoder_mask: Mask) -> Tensor:
        """Hidden states (batch, decoder tokens, hidden_size) of what is written about what is read."""
        return self.decode(decoder_input_ids, decoder_mask, self.encode(input_ids, mask), mask)

    def encode(self, input_ids: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing all of its row."""
        x = self._embed(input_ids, mask.positions(input_ids))
        for block in self.encoder:
            x = block(x, mask)
        output: Tensor = self.encoder_norm(x)
        return output

    def decode(
        self,
        decoder_input_ids: Tensor,
        mask: Mask,
        memory: Tensor,
        memory_mask: Mask,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states of ids, each seeing those before it and what `encode` made of another text."""
        x = self._embed(decoder_input_ids, mask.positions(decoder_input_ids, cache.length if cache else 0))
        mask, memory_mask = mask.causal(), memory_mask.across(mask)
        for index, block in enumerate(self.decoder):
            x = block(x, mask, memory, memory_mask, cache.layer(index) if cache else None)
        output: Tensor = self.decoder_norm(x)
        return output

    def _embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        x: Tensor = self.embedding(ids) * self.embedding.embedding_dim**0.5
        output: Tensor = x + self.positions(positions).to(x.dtype)
        return output
