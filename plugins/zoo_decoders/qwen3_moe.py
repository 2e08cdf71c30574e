"""Qwen3 with experts: Qwen3's block, whose feed-forward is a few of many for each token, or one for all.

Yang et al., 2025: https://arxiv.org/abs/2505.09388
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from zoo.generation import Cache
from zoo.layers import (
    ACTIVATIONS,
    Experts,
    GatedFeedForward,
    KeyValueCache,
    Mask,
    NormedAttention,
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
class Qwen3Moe(DecoderSpec):
    """Sizes of a Qwen3 with experts; defaults are config.json's own. Fields are config.json's."""

    vocab_size: int = 151936
    hidden_size: int = 2048
    intermediate_size: int = 6144
    """Width of the feed-forward where a layer has no experts."""
    moe_intermediate_size: int = 768
    """Width of each expert."""
    num_hidden_layers: int = 24
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 4
    """Heads of keys and values; None: as many as query heads."""
    head_dim: int | None = None
    """Width of a head; None: hidden_size / num_attention_heads."""
    max_position_embeddings: int = 32768
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    rope_parameters: RopeParameters = field(default_factory=RopeParameters)
    attention_bias: bool = False
    attention_dropout: float = 0.0
    use_sliding_window: bool = False
    """Whether a token sees no more than `sliding_window` tokens."""
    sliding_window: int | None = 4096
    """How many these are, itself included."""
    num_experts: int = 128
    """Experts of a layer that has some."""
    num_experts_per_tok: int = 8
    """Experts that a token goes through."""
    norm_topk_prob: bool = False
    """Whether the weights of a token's experts sum to one."""
    decoder_sparse_step: int = 1
    """The last of so many layers has experts."""
    mlp_only_layers: list[int] | None = None
    """Numbers of layers that have none all the same."""
    output_router_logits: bool = False
    """Whether experts that are used unevenly add to a language model's loss."""
    router_aux_loss_coef: float = 0.001
    """The weight of what they add."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_dim is None:
            require_divides(self, "num_attention_heads", "hidden_size")
        if self.num_key_value_heads is not None:
            require_divides(self, "num_key_value_heads", "num_attention_heads")
        if self.sliding_window is not None:
            require_positive(self, "sliding_window")
        require_known(self, "hidden_act", ACTIVATIONS)
        require_positive(self, "decoder_sparse_step")
        require_at_most(self, "num_experts_per_tok", "num_experts")

    def is_sparse(self, index: int) -> bool:
        """Whether a layer has experts."""
        return index not in (self.mlp_only_layers or ()) and (index + 1) % self.decoder_sparse_step == 0

    def build(self) -> "Qwen3MoeDecoder":
        """The backbone, without weights of its own choosing."""
        return Qwen3MoeDecoder(self)

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
        "model.layers.{}.mlp.gate.{}": "blocks.{}.feedforward.router.{}",
        "model.layers.{}.mlp.experts.{}.gate_proj.weight": "blocks.{}.feedforward.experts.gate",
        "model.layers.{}.mlp.experts.{}.up_proj.weight": "blocks.{}.feedforward.experts.up",
        "model.layers.{}.mlp.experts.{}.down_proj.weight": "blocks.{}.feedforward.experts.down",
        "model.norm.{}": "norm.{}",
    }
    fused = {
        "model.layers.{}.mlp.experts.gate_up_proj": [
            "model.layers.{}.mlp.experts.{}.gate_proj.weight",
            "model.layers.{}.mlp.experts.{}.up_proj.weight",
        ],
        "model.layers.{}.mlp.experts.down_proj": ["model.layers.{}.mlp.experts.{}.down_proj.weight"],
    }
    heads = {
        "CausalLM": HubHead("Qwen3MoeForCausalLM", {"lm_head.{}": "projection.{}"}),
        "SequenceClassification": HubHead(
            "Qwen3MoeForSequenceClassification", {"score.{}": "projection.{}"}, adds_backbone_loss=False
        ),
        "TokenClassification": HubHead(
            "Qwen3MoeForTokenClassification",
            {"score.{}": "projection.{}"},
            bias=True,
            adds_backbone_loss=False,
        ),
        "ExtractiveQA": HubHead(
            "Qwen3MoeForQuestionAnswering",
            {"qa_outputs.{}": "projection.{}"},
            bias=True,
            prefix="transformer.",
            is_bare=True,
            adds_backbone_loss=False,
        ),
    }
    prefix = "model."
    renamed = {"num_experts": "num_experts", "num_local_experts": "num_experts"}
    ignored = frozenset({"max_window_layers"})
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "moe_intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "max_position_embeddings": 64,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "mlp_only_layers": [0],
        "output_router_logits": True,
    }


class Qwen3MoeBlock(nn.Module):
    """Attention, then a feed-forward, sparse or not, each normed before and added after."""

    def __init__(self, spec: Qwen3Moe, *, is_sparse: bool) -> None:
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
        self.feedforward = _sparse(spec) if is_sparse else _dense(spec)

    def forward(
        self, x_BTD: Tensor, mask: Mask, rope: Rope, cache: KeyValueCache | None
    ) -> tuple[Tensor, Routing | None]:
        """Hidden states (batch, tokens, hidden_size) in and out, and how they were routed, if they were."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), mask, rope, cache)
        made = self.feedforward(self.feedforward_norm(x_BTD))
        made_BTD, routing = made if isinstance(made, tuple) else (made, None)
        return x_BTD + made_BTD, routing


def _sparse(spec: Qwen3Moe) -> SparseFeedForward:
    router = Router(
        spec.hidden_size, spec.num_experts, spec.num_experts_per_tok, normalizes=spec.norm_topk_prob
    )
    sizes = spec.num_experts, spec.hidden_size, spec.moe_intermediate_size
    return SparseFeedForward(router, Experts(*sizes, spec.hidden_act, spec.initializer_range))


def _dense(spec: Qwen3Moe) -> GatedFeedForward:
    return GatedFeedForward(spec.hidden_size, spec.intermediate_size, spec.hidden_act)


class Qwen3MoeDecoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: Qwen3Moe) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        head_dim = spec.head_dim or spec.hidden_size // spec.num_attention_heads
        self.positions = RotaryPositions(head_dim, spec.rope_parameters)
        kinds = [spec.is_sparse(index) for index in range(spec.num_hidden_layers)]
        self.blocks = nn.ModuleList(Qwen3MoeBlock(spec, is_sparse=kind) for kind in kinds)
        self.norm = RMSNorm(spec.hidden_size, spec.rms_norm_eps)
        self.reach = spec.sliding_window if spec.use_sliding_window else None
        self.balance = spec.router_aux_loss_coef if spec.output_router_logits and any(kinds) else None

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor | WithLoss:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        rope = self.positions(mask.positions(input_ids, cache.length if cache else 0))
        x_BTD, routings = self.embedding(input_ids), []
        view = mask.causal().within(self.reach)
        for index, block in enumerate(self.blocks):
            x_BTD, routing = block(x_BTD, view, rope, cache.layer(index) if cache else None)
            routings += [] if routing is None else [routing]
        output_BTD: Tensor = self.norm(x_BTD)
        if self.balance is None or cache is not None:
            return output_BTD
        return WithLoss(output_BTD, self.balance * balance_loss(routings, mask.real))
