"""Llama: a decoder-only Transformer with RMSNorm, rotary positions and SwiGLU.

Touvron et al., 2023: https://arxiv.org/abs/2302.13971
Grouped queries: https://arxiv.org/abs/2305.13245
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
    RMSNorm,
    Rope,
    RopeParameters,
    RotaryPositions,
)
from zoo.specs import DecoderSpec, Gguf, HubHead, require_divides, require_known


@dataclass(frozen=True, kw_only=True)
class Llama(DecoderSpec):
    """Sizes of a Llama; defaults are the paper's 7B. Fields are config.json's."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    """Width of the feed-forward."""
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    """Heads of keys and values; None: as many as query heads."""
    head_dim: int | None = None
    """Width of a head; None: hidden_size / num_attention_heads."""
    max_position_embeddings: int = 2048
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    rope_parameters: RopeParameters = field(default_factory=RopeParameters)
    attention_bias: bool = False
    mlp_bias: bool = False
    attention_dropout: float = 0.0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_dim is None:
            require_divides(self, "num_attention_heads", "hidden_size")
        if self.num_key_value_heads is not None:
            require_divides(self, "num_key_value_heads", "num_attention_heads")
        require_known(self, "hidden_act", ACTIVATIONS)

    def build(self) -> "LlamaDecoder":
        """The backbone, without weights of its own choosing."""
        return LlamaDecoder(self)

    # Hub name on the left, ours on the right; read in both directions.
    weights = {
        "model.embed_tokens.{}": "embedding.{}",
        "model.layers.{}.input_layernorm.{}": "blocks.{}.attention_norm.{}",
        "model.layers.{}.self_attn.q_proj.{}": "blocks.{}.attention.query.{}",
        "model.layers.{}.self_attn.k_proj.{}": "blocks.{}.attention.key.{}",
        "model.layers.{}.self_attn.v_proj.{}": "blocks.{}.attention.value.{}",
        "model.layers.{}.self_attn.o_proj.{}": "blocks.{}.attention.output.{}",
        "model.layers.{}.post_attention_layernorm.{}": "blocks.{}.feedforward_norm.{}",
        "model.layers.{}.mlp.gate_proj.{}": "blocks.{}.feedforward.gate.{}",
        "model.layers.{}.mlp.up_proj.{}": "blocks.{}.feedforward.up.{}",
        "model.layers.{}.mlp.down_proj.{}": "blocks.{}.feedforward.down.{}",
        "model.norm.{}": "norm.{}",
    }
    heads = {
        "CausalLM": HubHead("LlamaForCausalLM", {"lm_head.{}": "projection.{}"}),
        "SequenceClassification": HubHead("LlamaForSequenceClassification", {"score.{}": "projection.{}"}),
        "TokenClassification": HubHead(
            "LlamaForTokenClassification", {"score.{}": "projection.{}"}, bias=True
        ),
        "ExtractiveQA": HubHead(
            "LlamaForQuestionAnswering",
            {"qa_outputs.{}": "projection.{}"},
            bias=True,
            prefix="transformer.",
            is_bare=True,
        ),
    }
    gguf = Gguf(
        "llama",
        {
            "token_embd.{}": "embedding.{}",
            "blk.{}.attn_norm.{}": "blocks.{}.attention_norm.{}",
            "blk.{}.attn_q.{}": "blocks.{}.attention.query.{}",
            "blk.{}.attn_k.{}": "blocks.{}.attention.key.{}",
            "blk.{}.attn_v.{}": "blocks.{}.attention.value.{}",
            "blk.{}.attn_output.{}": "blocks.{}.attention.output.{}",
            "blk.{}.ffn_norm.{}": "blocks.{}.feedforward_norm.{}",
            "blk.{}.ffn_gate.{}": "blocks.{}.feedforward.gate.{}",
            "blk.{}.ffn_up.{}": "blocks.{}.feedforward.up.{}",
            "blk.{}.ffn_down.{}": "blocks.{}.feedforward.down.{}",
            "output_norm.{}": "norm.{}",
        },
        has_neighbouring_pairs=True,
        needs={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    )
    prefix = "model."
    unread = frozenset({"model.layers.{}.self_attn.rotary_emb.inv_freq"})
    ignored = frozenset({"pretraining_tp"})
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }


class LlamaBlock(nn.Module):
    """Attention, then feed-forward, each normed before and added after."""

    def __init__(self, spec: Llama) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.attention = Attention(
            spec.hidden_size,
            spec.num_attention_heads,
            num_key_value_heads=spec.num_key_value_heads,
            head_dim=spec.head_dim,
            bias=spec.attention_bias,
            dropout=spec.attention_dropout,
        )
        self.feedforward_norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.feedforward = GatedFeedForward(
            spec.hidden_size, spec.intermediate_size, spec.hidden_act, bias=spec.mlp_bias
        )

    def forward(self, x_BTD: Tensor, mask: Mask, rope: Rope, cache: KeyValueCache | None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), mask, rope, cache)
        output_BTD: Tensor = x_BTD + self.feedforward(self.feedforward_norm(x_BTD))
        return output_BTD


class LlamaDecoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: Llama) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        head_dim = spec.head_dim or spec.hidden_size // spec.num_attention_heads
        self.positions = RotaryPositions(head_dim, spec.rope_parameters)
        self.blocks = nn.ModuleList(LlamaBlock(spec) for _ in range(spec.num_hidden_layers))
        self.norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        rope = self.positions(mask.positions(input_ids, cache.length if cache else 0))
        x_BTD = self.embedding(input_ids)
        mask = mask.causal()
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, mask, rope, cache.layer(index) if cache else None)
        output_BTD: Tensor = self.norm(x_BTD)
        return output_BTD
