"""YourPlugin: a decoder normed before each part, with rotary positions.

It works as it stands. To make it yours: name the paper here, sizes in the spec, their order
in the blocks. Layers stand in `zoo.layers`; one of your own is an `nn.Module` in this file.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from zoo.generation import Cache
from zoo.layers import (
    ACTIVATIONS,
    Attention,
    GatedFeedForward,
    KeyValueCache,
    Mask,
    RMSNorm,
    Rope,
    RotaryPositions,
)
from zoo.specs import DecoderSpec, require_divides, require_known


@dataclass(frozen=True, kw_only=True)
class YourPlugin(DecoderSpec):
    """Sizes, under the names that config.json has. A field of your own gets a text below it."""

    vocab_size: int = 32000
    hidden_size: int = 1024
    intermediate_size: int = 2816
    num_hidden_layers: int = 12
    num_attention_heads: int = 16
    max_position_embeddings: int = 2048
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)

    def build(self) -> "YourPluginDecoder":
        """The backbone, without weights of its own choosing."""
        return YourPluginDecoder(self)

    # Where there are checkpoints, `weights` maps their names to ours: "model.layers.{}.{}": "blocks.{}.{}".


class YourPluginBlock(nn.Module):
    """Attention, then feed-forward, each normed before and added after."""

    def __init__(self, spec: YourPlugin) -> None:
        super().__init__()
        width = spec.hidden_size
        self.attention_norm = RMSNorm(width, spec.rms_norm_eps)
        self.attention = Attention(width, spec.num_attention_heads)
        self.feedforward_norm = RMSNorm(width, spec.rms_norm_eps)
        self.feedforward = GatedFeedForward(width, spec.intermediate_size, spec.hidden_act)

    def forward(self, x: Tensor, mask: Mask, rope: Rope, cache: KeyValueCache | None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x = x + self.attention(self.attention_norm(x), mask, rope, cache)
        output: Tensor = x + self.feedforward(self.feedforward_norm(x))
        return output


class YourPluginDecoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: YourPlugin) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.positions = RotaryPositions(spec.hidden_size // spec.num_attention_heads)
        self.blocks = nn.ModuleList(YourPluginBlock(spec) for _ in range(spec.num_hidden_layers))
        self.norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        x = self.embedding(input_ids)
        rope = self.positions(mask.positions(input_ids, cache.length if cache else 0))
        mask = mask.causal()
        for index, block in enumerate(self.blocks):
            x = block(x, mask, rope, cache.layer(index) if cache else None)
        output: Tensor = self.norm(x)
        return output
