"""Gemma 3, its part that reads and writes text: normed before and after each part, mostly looking nearby.

Gemma team, 2025: https://arxiv.org/abs/2503.19786
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.generation import Cache
from zoo.layers import (
    ACTIVATIONS,
    GatedFeedForward,
    KeyValueCache,
    Mask,
    NormedAttention,
    Rope,
    RopeByLayerType,
    RotaryPositions,
)
from zoo.specs import (
    LAYER_TYPES,
    DecoderSpec,
    HubHead,
    require_divides,
    require_known,
    require_layer_types,
    require_positive,
)

BASES = (1_000_000.0, 10_000.0)
"""Of the rotations in layers of either kind."""


@dataclass(frozen=True, kw_only=True)
class Gemma3Text(DecoderSpec):
    """Sizes of a Gemma 3; defaults are config.json's own."""

    vocab_size: int = 262208
    hidden_size: int = 2304
    intermediate_size: int = 9216
    """Width of the feed-forward."""
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    """Width of a head, whatever the heads' number and hidden_size are."""
    query_pre_attn_scalar: float = 256
    """Scores are divided by its square root."""
    max_position_embeddings: int = 131072
    hidden_activation: str = "gelu_pytorch_tanh"
    rms_norm_eps: float = 1e-6
    rope_parameters: RopeByLayerType = field(default_factory=lambda: RopeByLayerType.of_bases(*BASES))
    sliding_window: int | None = 4096
    """How many tokens, itself included, a token of a layer that slides sees."""
    layer_types: list[str] | None = None
    """Of each layer, `full_attention` or `sliding_attention`; None: as the next field says."""
    sliding_window_pattern: int = 6
    """The last of so many layers sees all, where the one before says nothing."""
    attention_bias: bool = False
    attention_dropout: float = 0.0
    final_logit_softcapping: float | None = None
    """What logits of the vocabulary are bent to lie within; None: they are as they are."""
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_key_value_heads", "num_attention_heads")
        require_known(self, "hidden_activation", ACTIVATIONS)
        require_layer_types(self)
        require_positive(self, "sliding_window_pattern")
        softcap = self.final_logit_softcapping
        if softcap is not None and softcap <= 0:
            raise SpecError(
                f"`final_logit_softcapping` must be above 0, got {softcap}", at="final_logit_softcapping"
            )

    def layer_type(self, index: int) -> str:
        """How far a layer looks."""
        if self.layer_types is not None:
            return self.layer_types[index]
        return LAYER_TYPES[bool((index + 1) % self.sliding_window_pattern)]

    def build(self) -> "Gemma3TextDecoder":
        """The backbone, without weights of its own choosing."""
        return Gemma3TextDecoder(self)

    def hub_head(self, name: str) -> HubHead:
        """How the head of this class name stands on the Hub."""
        head = super().hub_head(name)
        return replace(head, softcap=self.final_logit_softcapping) if name == "CausalLM" else head

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that config.json's keys speak of; files before 2026 have words of their own for rope."""
        values = super().of_config(config)
        bases = BASES[0], values.pop("rope_local_base_freq", BASES[1])
        return {**values, "rope_parameters": RopeByLayerType.spelled(values.get("rope_parameters"), *bases)}

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
        "model.layers.{}.post_attention_layernorm.{}": "blocks.{}.after_attention_norm.{}",
        "model.layers.{}.pre_feedforward_layernorm.{}": "blocks.{}.feedforward_norm.{}",
        "model.layers.{}.mlp.gate_proj.{}": "blocks.{}.feedforward.gate.{}",
        "model.layers.{}.mlp.up_proj.{}": "blocks.{}.feedforward.up.{}",
        "model.layers.{}.mlp.down_proj.{}": "blocks.{}.feedforward.down.{}",
        "model.layers.{}.post_feedforward_layernorm.{}": "blocks.{}.after_feedforward_norm.{}",
        "model.norm.{}": "norm.{}",
    }
    heads = {
        "CausalLM": HubHead("Gemma3ForCausalLM", {"lm_head.{}": "projection.{}"}),
        "SequenceClassification": HubHead(
            "Gemma3TextForSequenceClassification", {"score.{}": "projection.{}"}
        ),
    }
    prefix = "model."
    # The reference reads `attn_logit_softcapping` and does nothing by it.
    without = {"attn_logit_softcapping": "null", "use_bidirectional_attention": "null"}
    ignored = frozenset({"_sliding_window_pattern", "cache_implementation"})  # layer_types say more
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "query_pre_attn_scalar": 10,
        "max_position_embeddings": 64,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"],
    }


class Gemma3Norm(nn.Module):
    """Divides by the root mean square, then scales by one and a weight, all in float32."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(hidden_size))

    def reset_parameters(self) -> None:
        """Starts at a scale of one."""
        nn.init.zeros_(self.weight)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Hidden states (…, hidden_size) in and out."""
        wide = x_BTD.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * (1 + self.weight.float())).to(x_BTD.dtype)


class Gemma3Block(nn.Module):
    """Attention, then feed-forward, each normed before, normed after, and then added."""

    def __init__(self, spec: Gemma3Text) -> None:
        super().__init__()

        def norm() -> Gemma3Norm:
            return Gemma3Norm(spec.hidden_size, spec.rms_norm_eps)

        self.attention_norm, self.after_attention_norm = norm(), norm()
        self.attention = NormedAttention(
            spec.hidden_size,
            spec.num_attention_heads,
            num_key_value_heads=spec.num_key_value_heads,
            head_dim=spec.head_dim,
            bias=spec.attention_bias,
            dropout=spec.attention_dropout,
            scale=spec.query_pre_attn_scalar**-0.5,
            norm=lambda width: Gemma3Norm(width, spec.rms_norm_eps),
        )
        self.feedforward_norm, self.after_feedforward_norm = norm(), norm()
        self.feedforward = GatedFeedForward(spec.hidden_size, spec.intermediate_size, spec.hidden_activation)

    def forward(self, x_BTD: Tensor, mask: Mask, rope: Rope, cache: KeyValueCache | None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        seen_BTD = self.attention(self.attention_norm(x_BTD), mask, rope, cache)
        x_BTD = x_BTD + self.after_attention_norm(seen_BTD)
        made_BTD = self.feedforward(self.feedforward_norm(x_BTD))
        output_BTD: Tensor = x_BTD + self.after_feedforward_norm(made_BTD)
        return output_BTD


class Gemma3TextDecoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: Gemma3Text) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.full_positions = RotaryPositions(spec.head_dim, spec.rope_parameters.full_attention)
        self.sliding_positions = RotaryPositions(spec.head_dim, spec.rope_parameters.sliding_attention)
        self.layer_types = [spec.layer_type(index) for index in range(spec.num_hidden_layers)]
        self.blocks = nn.ModuleList(Gemma3Block(spec) for _ in self.layer_types)
        self.norm = Gemma3Norm(spec.hidden_size, spec.rms_norm_eps)
        self.reach = spec.sliding_window

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        positions_BT = mask.positions(input_ids, cache.length if cache else 0)
        mask = mask.causal()
        views = {
            "full_attention": (mask, self.full_positions(positions_BT)),
            "sliding_attention": (mask.within(self.reach), self.sliding_positions(positions_BT)),
        }
        x_BTD = self.embedding(input_ids)
        scale = torch.full((), math.sqrt(x_BTD.shape[-1]), dtype=x_BTD.dtype, device=x_BTD.device)
        x_BTD = x_BTD * scale  # rounded to its dtype, as in the reference
        for index, (block, layer_type) in enumerate(zip(self.blocks, self.layer_types, strict=True)):
            x_BTD = block(x_BTD, *views[layer_type], cache.layer(index) if cache else None)
        output_BTD: Tensor = self.norm(x_BTD)
        return output_BTD
