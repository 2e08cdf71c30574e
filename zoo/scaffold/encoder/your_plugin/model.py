"""YourPlugin: an encoder normed before each part, with rotary positions.

It works as it stands. To make it yours: name the paper here, sizes in the spec, their order
in the blocks. Layers stand in `zoo.layers`; one of your own is an `nn.Module` in this file.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from zoo.layers import ACTIVATIONS, Attention, FeedForward, Mask, Rope, RotaryPositions
from zoo.specs import EncoderSpec, require_divides, require_known


@dataclass(frozen=True, kw_only=True)
class YourPlugin(EncoderSpec):
    """Sizes, under the names that config.json has. A field of your own gets a text below it."""

    vocab_size: int = 30522
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 512
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float = 0.1
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)

    def build(self) -> "YourPluginEncoder":
        """The backbone, without weights of its own choosing."""
        return YourPluginEncoder(self)

    # Where there are checkpoints, `weights` maps their names to ours: "encoder.layer.{}.{}": "blocks.{}.{}".


class YourPluginBlock(nn.Module):
    """Attention, then feed-forward, each normed before and added after."""

    def __init__(self, spec: YourPlugin) -> None:
        super().__init__()
        width = spec.hidden_size
        self.attention_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.attention = Attention(width, spec.num_attention_heads, bias=True)
        self.feedforward_norm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.feedforward = FeedForward(width, spec.intermediate_size, spec.hidden_act)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)

    def forward(self, x: Tensor, mask: Mask, rope: Rope) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x = x + self.dropout(self.attention(self.attention_norm(x), mask, rope))
        output: Tensor = x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        return output


class YourPluginEncoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: YourPlugin) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size, padding_idx=spec.pad_token_id)
        self.positions = RotaryPositions(spec.hidden_size // spec.num_attention_heads)
        self.blocks = nn.ModuleList(YourPluginBlock(spec) for _ in range(spec.num_hidden_layers))
        self.norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)

    def forward(self, input_ids: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens); `mask` says who may see whom."""
        x = self.embedding(input_ids)
        rope = self.positions(mask.positions(input_ids))
        for block in self.blocks:
            x = block(x, mask, rope)
        output: Tensor = self.norm(x)
        return output
