"""Mixtral: Llama's block, whose feed-forward is one of several for each token.

Jiang et al., 2024: https://arxiv.org/abs/2401.04088
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from zoo.generation import Cache
from zoo.layers import (
    ACTIVATIONS,
    Attention,
    Experts,
    KeyValueCache,
    Mask,
    RMSNorm,
    Rope,
    RopeParameters,
    RotaryPositions,
    Router,
    Routing,
    SparseFeedForward,
    WithLoss,
    balance_loss,
)
from zoo.specs import (
    DecoderSpec,
    HubHead,
    require_at_most,
    require_divides,
    require_known,
    require_positive,
)


@dataclass(frozen=True, kw_only=True)
class Mixtral(DecoderSpec):
    """Sizes of a Mixtral; defaults are its 8x7B. Fields are config.json's."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 14336
    """Width of each expert."""
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 8
    """Heads of keys and values; None: as many as query heads."""
    head_dim: int | None = None
    """Width of a head; None: hidden_size / num_attention_heads."""
    max_position_embeddings: int = 131072
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-5
    rope_parameters: RopeParameters = field(default_factory=lambda: RopeParameters(rope_theta=1e6))
    sliding_window: int | None = None
    """How many tokens, itself included, a token sees; None: all."""
    attention_dropout: float = 0.0
    num_local_experts: int = 8
    """Experts of each layer."""
    num_experts_per_tok: int = 2
    """Experts that a token goes through."""
    output_router_logits: bool = False
    """Whether experts that are used unevenly add to a language model's loss."""
    router_aux_loss_coef: float = 0.001
    """The weight of what they add."""
    router_jitter_noise: float = 0.0
    """By how much what experts read is shaken in training, at most; a share."""
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_dim is None:
            require_divides(self, "num_attention_heads", "hidden_size")
        if self.num_key_value_heads is not None:
            require_divides(self, "num_key_value_heads", "num_attention_heads")
        if self.sliding_window is not None:
            require_positive(self, "sliding_window")
        require_known(self, "hidden_act", ACTIVATIONS)
        require_at_most(self, "num_experts_per_tok", "num_local_experts")

    def build(self) -> "MixtralDecoder":
        """The backbone, without weights of its own choosing."""
        return MixtralDecoder(self)

    # Hub name on the left, ours on the right; read in both directions.
    weights = {
        "model.embed_tokens.{}": "embedding.{}",
        "model.layers.{}.input_layernorm.{}": "blocks.{}.attention_norm.{}",
        "model.layers.{}.self_attn.q_proj.{}": "blocks.{}.attention.query.{}",
        "model.layers.{}.self_attn.k_proj.{}": "blocks.{}.attention.key.{}",
        "model.layers.{}.self_attn.v_proj.{}": "blocks.{}.attention.value.{}",
        "model.layers.{}.self_attn.o_proj.{}": "blocks.{}.attention.output.{}",
        "model.layers.{}.post_attention_layernorm.{}": "blocks.{}.feedforward_norm.{}",
        "model.layers.{}.block_sparse_moe.gate.{}": "blocks.{}.feedforward.router.{}",
        "model.layers.{}.block_sparse_moe.experts.{}.w1.weight": "blocks.{}.feedforward.experts.gate",
        "model.layers.{}.block_sparse_moe.experts.{}.w2.weight": "blocks.{}.feedforward.experts.down",
        "model.layers.{}.block_sparse_moe.experts.{}.w3.weight": "blocks.{}.feedforward.experts.up",
        "model.norm.{}": "norm.{}",
    }
    fused = {
        "model.layers.{}.mlp.gate.{}": ["model.layers.{}.block_sparse_moe.gate.{}"],
        "model.layers.{}.mlp.experts.gate_up_proj": [
            "model.layers.{}.block_sparse_moe.experts.{}.w1.weight",
            "model.layers.{}.block_sparse_moe.experts.{}.w3.weight",
        ],
        "model.layers.{}.mlp.experts.down_proj": ["model.layers.{}.block_sparse_moe.experts.{}.w2.weight"],
    }
    heads = {
        "CausalLM": HubHead("MixtralForCausalLM", {"lm_head.{}": "projection.{}"}),
        "SequenceClassification": HubHead(
            "MixtralForSequenceClassification", {"score.{}": "projection.{}"}, adds_backbone_loss=False
        ),
        "TokenClassification": HubHead(
            "MixtralForTokenClassification",
            {"score.{}": "projection.{}"},
            bias=True,
            adds_backbone_loss=False,
        ),
        "ExtractiveQA": HubHead(
            "MixtralForQuestionAnswering",
            {"qa_outputs.{}": "projection.{}"},
            bias=True,
            adds_backbone_loss=False,
        ),
    }
    prefix = "model."
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "num_local_experts": 4,
        "output_router_logits": True,
    }


class MixtralBlock(nn.Module):
    """Attention, then a sparse feed-forward, each normed before and added after."""

    def __init__(self, spec: Mixtral) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.attention = Attention(
            spec.hidden_size,
            spec.num_attention_heads,
            num_key_value_heads=spec.num_key_value_heads,
            head_dim=spec.head_dim,
            dropout=spec.attention_dropout,
        )
        self.feedforward_norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        sizes = spec.num_local_experts, spec.hidden_size, spec.intermediate_size
        self.feedforward = SparseFeedForward(
            Router(spec.hidden_size, spec.num_local_experts, spec.num_experts_per_tok, normalizes=True),
            Experts(*sizes, spec.hidden_act, spec.initializer_range),
            jitter=spec.router_jitter_noise,
        )

    def forward(
        self, x_BTD: Tensor, mask: Mask, rope: Rope, cache: KeyValueCache | None
    ) -> tuple[Tensor, Routing]:
        """Hidden states (batch, tokens, hidden_size) in and out, and how they were routed."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), mask, rope, cache)
        made_BTD, routing = self.feedforward(self.feedforward_norm(x_BTD))
        return x_BTD + made_BTD, routing


class MixtralDecoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: Mixtral) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        head_dim = spec.head_dim or spec.hidden_size // spec.num_attention_heads
        self.positions = RotaryPositions(head_dim, spec.rope_parameters)
        self.blocks = nn.ModuleList(MixtralBlock(spec) for _ in range(spec.num_hidden_layers))
        self.norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.reach = spec.sliding_window
        self.balance = spec.router_aux_loss_coef if spec.output_router_logits else None

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor | WithLoss:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        rope = self.positions(mask.positions(input_ids, cache.length if cache else 0))
        x_BTD, routings = self.embedding(input_ids), []
        view = mask.causal().within(self.reach)
        for index, block in enumerate(self.blocks):
            x_BTD, routing = block(x_BTD, view, rope, cache.layer(index) if cache else None)
            routings.append(routing)
        output_BTD: Tensor = self.norm(x_BTD)
        if self.balance is None or cache is not None:
            return output_BTD
        return WithLoss(output_BTD, self.balance * balance_loss(routings, mask.real))
