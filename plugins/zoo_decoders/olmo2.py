"""OLMo 2: Llama's parts, normed not before but after, and queries and keys normed over all their heads.

OLMo team, 2025: https://arxiv.org/abs/2501.00656
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from zoo.generation import Cache
from zoo.layers import (
    ACTIVATIONS,
    Attention,
    GatedFeedForward,
    KeyValueCache,
    Mask,
    Rope,
    RopeParameters,
    RotaryPositions,
)
from zoo.specs import DecoderSpec, HubHead, require_divides, require_known


@dataclass(frozen=True, kw_only=True)
class Olmo2(DecoderSpec):
    """Sizes of an OLMo 2; defaults are its 7B. Fields are config.json's."""

    vocab_size: int = 50304
    hidden_size: int = 4096
    intermediate_size: int = 11008
    """Width of the feed-forward."""
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    """Heads of keys and values; None: as many as query heads."""
    max_position_embeddings: int = 2048
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-5
    rope_parameters: RopeParameters = field(default_factory=RopeParameters)
    attention_bias: bool = False
    attention_dropout: float = 0.0
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 50279

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        if self.num_key_value_heads is not None:
            require_divides(self, "num_key_value_heads", "num_attention_heads")
        require_known(self, "hidden_act", ACTIVATIONS)

    def build(self) -> "Olmo2Decoder":
        """The backbone, without weights of its own choosing."""
        return Olmo2Decoder(self)

    # Hub name on the left, ours on the right; read in both directions.
    weights = {
        "model.embed_tokens.{}": "embedding.{}",
        "model.layers.{}.self_attn.q_proj.{}": "blocks.{}.attention.query.{}",
        "model.layers.{}.self_attn.k_proj.{}": "blocks.{}.attention.key.{}",
        "model.layers.{}.self_attn.v_proj.{}": "blocks.{}.attention.value.{}",
        "model.layers.{}.self_attn.o_proj.{}": "blocks.{}.attention.output.{}",
        "model.layers.{}.self_attn.q_norm.{}": "blocks.{}.attention.query_norm.{}",
        "model.layers.{}.self_attn.k_norm.{}": "blocks.{}.attention.key_norm.{}",
        "model.layers.{}.post_attention_layernorm.{}": "blocks.{}.attention_norm.{}",
        "model.layers.{}.mlp.gate_proj.{}": "blocks.{}.feedforward.gate.{}",
        "model.layers.{}.mlp.up_proj.{}": "blocks.{}.feedforward.up.{}",
        "model.layers.{}.mlp.down_proj.{}": "blocks.{}.feedforward.down.{}",
        "model.layers.{}.post_feedforward_layernorm.{}": "blocks.{}.feedforward_norm.{}",
        "model.norm.{}": "norm.{}",
    }
    heads = {
        "CausalLM": HubHead("Olmo2ForCausalLM", {"lm_head.{}": "projection.{}"}),
        "SequenceClassification": HubHead("Olmo2ForSequenceClassification", {"score.{}": "projection.{}"}),
    }
    prefix = "model."
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "eos_token_id": 2,
    }


class Olmo2Attention(Attention):
    """Attention whose queries and keys are normed, each over all heads at once."""

    tensor_parallel = {**Attention.tensor_parallel, "query_norm": "gathered", "key_norm": "gathered"}

    def __init__(self, spec: Olmo2) -> None:
        super().__init__(
            spec.hidden_size,
            spec.num_attention_heads,
            num_key_value_heads=spec.num_key_value_heads,
            bias=spec.attention_bias,
            dropout=spec.attention_dropout,
        )
        # torch's own scales before it casts back, as the reference does.
        self.query_norm = nn.RMSNorm(self.query.out_features, spec.rms_norm_eps)
        self.key_norm = nn.RMSNorm(self.key.out_features, spec.rms_norm_eps)

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, heads, tokens, head_dim), before they are turned."""
        q_BTD, k_BTD = self.query_norm(self.query(x_BTD)), self.key_norm(self.key(x_BTD))
        return self.heads(q_BTD), self.heads(k_BTD), self.heads(self.value(x_BTD))


class Olmo2Block(nn.Module):
    """Attention, then feed-forward, each normed after and then added."""

    def __init__(self, spec: Olmo2) -> None:
        super().__init__()
        self.attention = Olmo2Attention(spec)
        self.attention_norm = nn.RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.feedforward = GatedFeedForward(spec.hidden_size, spec.intermediate_size, spec.hidden_act)
        self.feedforward_norm = nn.RMSNorm(spec.hidden_size, spec.rms_norm_eps)

    def forward(self, x_BTD: Tensor, mask: Mask, rope: Rope, cache: KeyValueCache | None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BTD = x_BTD + self.attention_norm(self.attention(x_BTD, mask, rope, cache))
        output_BTD: Tensor = x_BTD + self.feedforward_norm(self.feedforward(x_BTD))
        return output_BTD


class Olmo2Decoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: Olmo2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.positions = RotaryPositions(spec.hidden_size // spec.num_attention_heads, spec.rope_parameters)
        self.blocks = nn.ModuleList(Olmo2Block(spec) for _ in range(spec.num_hidden_layers))
        self.norm = nn.RMSNorm(spec.hidden_size, spec.rms_norm_eps)

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        rope = self.positions(mask.positions(input_ids, cache.length if cache else 0))
        x_BTD = self.embedding(input_ids)
        mask = mask.causal()
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, mask, rope, cache.layer(index) if cache else None)
        output_BTD: Tensor = self.norm(x_BTD)
        return output_BTD
