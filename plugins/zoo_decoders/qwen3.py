"""Qwen3: Llama's block, with each head's queries and keys normed before they are turned.

Yang et al., 2025: https://arxiv.org/abs/2505.09388
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from zoo.generation import Cache
from zoo.layers import (
    ACTIVATIONS,
    GatedFeedForward,
    KeyValueCache,
    Mask,
    NormedAttention,
    RMSNorm,
    Rope,
    RopeParameters,
    RotaryPositions,
)
from zoo.specs import DecoderSpec, Gguf, HubHead, require_divides, require_known, require_layer_types


@dataclass(frozen=True, kw_only=True)
class Qwen3(DecoderSpec):
    """Sizes of a Qwen3; defaults are near those of its 8B. Fields are config.json's."""

    vocab_size: int = 151936
    hidden_size: int = 4096
    intermediate_size: int = 22016
    """Width of the feed-forward."""
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 32
    """Heads of keys and values; None: as many as query heads."""
    head_dim: int = 128
    """Width of a head, whatever the heads' number and hidden_size are."""
    max_position_embeddings: int = 32768
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    rope_parameters: RopeParameters = field(default_factory=RopeParameters)
    attention_bias: bool = False
    attention_dropout: float = 0.0
    use_sliding_window: bool = False
    """Whether the later layers see a window alone."""
    sliding_window: int | None = 4096
    """How many tokens, itself included, a token of a layer that slides sees."""
    max_window_layers: int = 28
    """The first so many layers see all, where the others slide."""
    layer_types: list[str] | None = None
    """Of each layer, `full_attention` or `sliding_attention`; None: as the three before say."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_key_value_heads is not None:
            require_divides(self, "num_key_value_heads", "num_attention_heads")
        require_known(self, "hidden_act", ACTIVATIONS)
        require_layer_types(self)

    def reach(self, index: int) -> int | None:
        """How many tokens a layer's token sees; None: all."""
        if self.layer_types is not None:
            return self.sliding_window if self.layer_types[index] == "sliding_attention" else None
        return self.sliding_window if self.use_sliding_window and index >= self.max_window_layers else None

    def build(self) -> "Qwen3Decoder":
        """The backbone, without weights of its own choosing."""
        return Qwen3Decoder(self)

    # Hub name on the left, ours on the right; read in both directions.
    weights = {
        "model.embed_tokens.{}": "embedding.{}",
        "model.layers.{}.input_layernorm.{}": "blocks.{}.attention_norm.{}",
        "model.layers.{}.self_attn.q_proj.{}": "blocks.{}.attention.query.{}",
        "model.layers.{}.self_attn.k_proj.{}": "blocks.{}.attention.key.{}",
        "model.layers.{}.self_attn.v_proj.{}": "blocks.{}.attention.value.{}",
        "model.layers.{}.self_attn.o_proj.{}": "blocks.{}.attention.output.{}",
        "model.layers.{}.self_attn.q_norm.{}": "blocks.{}.attention.query_norm.{}",
        "model.layers.{}.self_attn.k_norm.{}": "blocks.{}.attention.key_norm.{}",
        "model.layers.{}.post_attention_layernorm.{}": "blocks.{}.feedforward_norm.{}",
        "model.layers.{}.mlp.gate_proj.{}": "blocks.{}.feedforward.gate.{}",
        "model.layers.{}.mlp.up_proj.{}": "blocks.{}.feedforward.up.{}",
        "model.layers.{}.mlp.down_proj.{}": "blocks.{}.feedforward.down.{}",
        "model.norm.{}": "norm.{}",
    }
    heads = {
        "CausalLM": HubHead("Qwen3ForCausalLM", {"lm_head.{}": "projection.{}"}),
        "SequenceClassification": HubHead("Qwen3ForSequenceClassification", {"score.{}": "projection.{}"}),
        "TokenClassification": HubHead(
            "Qwen3ForTokenClassification", {"score.{}": "projection.{}"}, bias=True
        ),
        "ExtractiveQA": HubHead(
            "Qwen3ForQuestionAnswering",
            {"qa_outputs.{}": "projection.{}"},
            bias=True,
            prefix="transformer.",
            is_bare=True,
        ),
    }
    gguf = Gguf(
        "qwen3",
        {
            "token_embd.{}": "embedding.{}",
            "blk.{}.attn_norm.{}": "blocks.{}.attention_norm.{}",
            "blk.{}.attn_q.{}": "blocks.{}.attention.query.{}",
            "blk.{}.attn_k.{}": "blocks.{}.attention.key.{}",
            "blk.{}.attn_v.{}": "blocks.{}.attention.value.{}",
            "blk.{}.attn_output.{}": "blocks.{}.attention.output.{}",
            "blk.{}.attn_q_norm.{}": "blocks.{}.attention.query_norm.{}",
            "blk.{}.attn_k_norm.{}": "blocks.{}.attention.key_norm.{}",
            "blk.{}.ffn_norm.{}": "blocks.{}.feedforward_norm.{}",
            "blk.{}.ffn_gate.{}": "blocks.{}.feedforward.gate.{}",
            "blk.{}.ffn_up.{}": "blocks.{}.feedforward.up.{}",
            "blk.{}.ffn_down.{}": "blocks.{}.feedforward.down.{}",
            "output_norm.{}": "norm.{}",
        },
        needs={
            "hidden_act": "silu",
            "attention_bias": False,
            "use_sliding_window": False,
            "layer_types": None,
        },
    )
    prefix = "model."
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "max_position_embeddings": 64,
        "use_sliding_window": True,
        "sliding_window": 4,
        "max_window_layers": 1,
    }


class Qwen3Block(nn.Module):
    """Attention, then feed-forward, each normed before and added after."""

    def __init__(self, spec: Qwen3) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.attention = NormedAttention(
            spec.hidden_size,
            spec.num_attention_heads,
            num_key_value_heads=spec.num_key_value_heads,
            head_dim=spec.head_dim,
            bias=spec.attention_bias,
            dropout=spec.attention_dropout,
            norm=lambda width: RMSNorm(width, spec.rms_norm_eps),
        )
        self.feedforward_norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.feedforward = GatedFeedForward(spec.hidden_size, spec.intermediate_size, spec.hidden_act)

    def forward(self, x_BTD: Tensor, mask: Mask, rope: Rope, cache: KeyValueCache | None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), mask, rope, cache)
        output_BTD: Tensor = x_BTD + self.feedforward(self.feedforward_norm(x_BTD))
        return output_BTD


class Qwen3Decoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: Qwen3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.positions = RotaryPositions(spec.head_dim, spec.rope_parameters)
        self.reaches = [spec.reach(index) for index in range(spec.num_hidden_layers)]
        self.blocks = nn.ModuleList(Qwen3Block(spec) for _ in self.reaches)
        self.norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        rope = self.positions(mask.positions(input_ids, cache.length if cache else 0))
        x_BTD = self.embedding(input_ids)
        views = {reach: mask.causal().within(reach) for reach in self.reaches}
        for index, (block, reach) in enumerate(zip(self.blocks, self.reaches, strict=True)):
            x_BTD = block(x_BTD, views[reach], rope, cache.layer(index) if cache else None)
        output_BTD: Tensor = self.norm(x_BTD)
        return output_BTD
