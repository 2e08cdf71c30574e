"""ModernBERT: an encoder with a decoder's parts, most of whose layers see only what is near.

Warner et al., 2024: https://arxiv.org/abs/2412.13663
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from zoo.layers import (
    ACTIVATIONS,
    DenseNorm,
    HeadAttention,
    Linear,
    Mask,
    Rope,
    RopeByLayerType,
    RotaryPositions,
    fill,
)
from zoo.specs import (
    LAYER_TYPES,
    EncoderSpec,
    HubHead,
    require_divides,
    require_known,
    require_layer_types,
    require_positive,
)

POOLINGS = ("cls", "mean")
BASES = (160000.0, 10000.0)
"""Of the rotations in layers of either kind."""


class ModernBertTransform(DenseNorm):
    """What stands between the hidden states and a projection."""

    def __init__(self, spec: "ModernBert") -> None:
        bias = spec.classifier_bias
        super().__init__(spec.hidden_size, spec.classifier_activation, norm(spec), bias=bias)
        self.start = functools.partial(spec.start, is_added=True)

    def reset_parameters(self) -> None:
        """Starts as small as what is added to the hidden states."""
        self.start(self.dense.weight)


def pooler(spec: "ModernBert") -> nn.Module:
    """The same before labels."""
    return nn.Sequential(ModernBertTransform(spec), nn.Dropout(spec.classifier_dropout))


def teller(task: str) -> HubHead:
    """A head that tells labels, places or choices, by transformers' word for them."""
    return HubHead(
        f"ModernBertFor{task}",
        {
            "head.dense.{}": "transform.0.dense.{}",
            "head.norm.{}": "transform.0.norm.{}",
            "classifier.{}": "projection.{}",
        },
        bias=True,
        transform=pooler,
    )


def norm(spec: "ModernBert") -> nn.LayerNorm:
    """A norm of hidden states."""
    return nn.LayerNorm(spec.hidden_size, spec.norm_eps, bias=spec.norm_bias)


@dataclass(frozen=True, kw_only=True)
class ModernBert(EncoderSpec):
    """Sizes of a ModernBERT; defaults are the paper's base model."""

    vocab_size: int = 50368
    hidden_size: int = 768
    intermediate_size: int = 1152
    """Width of the feed-forward, and of its gate."""
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    max_position_embeddings: int = 8192
    hidden_activation: str = "gelu"
    norm_eps: float = 1e-5
    norm_bias: bool = False
    """Whether norms have biases."""
    rope_parameters: RopeByLayerType = field(default_factory=lambda: RopeByLayerType.of_bases(*BASES))
    local_attention: int = 128
    """A token of a layer that slides sees half as many tokens before it, and half as many after it."""
    layer_types: list[str] | None = None
    """Of each layer, `full_attention` or `sliding_attention`; None: as the next field says."""
    global_attn_every_n_layers: int = 3
    """The first of so many layers sees all, where the one before says nothing."""
    attention_bias: bool = False
    mlp_bias: bool = False
    attention_dropout: float = 0.0
    """Of weights, and of what attention adds."""
    embedding_dropout: float = 0.0
    mlp_dropout: float = 0.0
    """Within the feed-forward."""
    initializer_cutoff_factor: float = 2.0
    """Fresh weights are at most so many times initializer_range."""
    decoder_bias: bool = True
    """Whether the projection onto the vocabulary has a bias."""
    classifier_pooling: str = "cls"
    """What stands for a text: the first token's hidden state, or the mean of all."""
    classifier_dropout: float = 0.0
    classifier_bias: bool = False
    """Whether the layer before a projection has a bias."""
    classifier_activation: str = "gelu"
    """What bends the layer before a projection."""
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 50283
    bos_token_id: int | None = 50281
    eos_token_id: int | list[int] | None = 50282
    cls_token_id: int | None = 50281
    sep_token_id: int | None = 50282

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_activation", ACTIVATIONS)
        require_known(self, "classifier_activation", ACTIVATIONS)
        require_known(self, "classifier_pooling", POOLINGS)
        require_layer_types(self)
        require_positive(self, "global_attn_every_n_layers")

    @property
    def sliding_window(self) -> int:
        """How many tokens on one side, itself included, a token of a layer that slides sees."""
        return self.local_attention // 2 + 1

    def layer_type(self, index: int) -> str:
        """How far a layer looks."""
        if self.layer_types is not None:
            return self.layer_types[index]
        return LAYER_TYPES[bool(index % self.global_attn_every_n_layers)]

    def start(self, weight: Tensor, *, is_added: bool = False) -> None:
        """Draws a fresh weight, a smaller one where it is of what blocks add up."""
        std = self.initializer_range / (math.sqrt(2 * self.num_hidden_layers) if is_added else 1)
        most = self.initializer_cutoff_factor * std
        fill(weight, lambda whole: nn.init.trunc_normal_(whole, std=std, a=-most, b=most))

    def build(self) -> "ModernBertEncoder":
        """The backbone, without weights of its own choosing."""
        return ModernBertEncoder(self)

    def hub_head(self, name: str) -> HubHead:
        """How the head of this class name stands on the Hub."""
        head = super().hub_head(name)
        if name == "MaskedLM":
            return replace(head, bias=self.decoder_bias)
        return replace(head, pooling="mean") if self.classifier_pooling == "mean" else head

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that config.json's keys speak of; files before 2026 have words of their own for rope."""
        values = super().of_config(config)
        names = ("global_rope_theta", "local_rope_theta")
        bases = (values.pop(name, base) for name, base in zip(names, BASES, strict=True))
        rope = RopeByLayerType.spelled(values.get("rope_parameters"), *bases)
        return {**values, "rope_parameters": rope}

    # Hub name on the left, ours on the right; read in both directions.
    weights = {
        "model.embeddings.tok_embeddings.{}": "embedding.{}",
        "model.embeddings.norm.{}": "embedding_norm.{}",
        "model.layers.{}.attn_norm.{}": "blocks.{}.attention_norm.{}",
        "model.layers.{}.attn.Wqkv.{}": "blocks.{}.attention.query_key_value.{}",
        "model.layers.{}.attn.Wo.{}": "blocks.{}.attention.output.{}",
        "model.layers.{}.mlp_norm.{}": "blocks.{}.feedforward_norm.{}",
        "model.layers.{}.mlp.Wi.{}": "blocks.{}.feedforward.up_gate.{}",
        "model.layers.{}.mlp.Wo.{}": "blocks.{}.feedforward.down.{}",
        "model.final_norm.{}": "norm.{}",
    }
    heads = {
        "MaskedLM": HubHead(
            "ModernBertForMaskedLM",
            {
                "head.dense.{}": "transform.dense.{}",
                "head.norm.{}": "transform.norm.{}",
                "decoder.{}": "projection.{}",
            },
            transform=ModernBertTransform,
        ),
        "SequenceClassification": teller("SequenceClassification"),
        "TokenClassification": teller("TokenClassification"),
        "ExtractiveQA": teller("QuestionAnswering"),
        "MultipleChoice": teller("MultipleChoice"),
    }
    prefix = "model."
    undivided = "queries, keys and values are thirds of one product, gate and values its halves"
    ignored = frozenset(
        {
            "deterministic_flash_attn", "layer_norm_eps", "position_embedding_type", "reference_compile",
            "repad_logits_with_grad", "sparse_pred_ignore_index", "sparse_prediction",
        }
    )  # fmt: skip
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "local_attention": 6,
        "pad_token_id": 0,
    }


class ModernBertAttention(HeadAttention):
    """Attention whose queries, keys and values come from one product."""

    def __init__(self, spec: ModernBert) -> None:
        width, bias = spec.hidden_size, spec.attention_bias
        super().__init__(width // spec.num_attention_heads, dropout=spec.attention_dropout)
        self.query_key_value = Linear(width, 3 * width, bias=bias)
        self.output = Linear(width, width, bias=bias)

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, heads, tokens, head_dim), before they are turned."""
        q_BHTK, k_BHTK, v_BHTK = map(self.heads, self.query_key_value(x_BTD).chunk(3, -1))
        return q_BHTK, k_BHTK, v_BHTK


class ModernBertFeedForward(nn.Module):
    """Widen twice in one product, let one half gate the other, narrow."""

    def __init__(self, spec: ModernBert) -> None:
        super().__init__()
        self.up_gate = Linear(spec.hidden_size, 2 * spec.intermediate_size, bias=spec.mlp_bias)
        self.down = Linear(spec.intermediate_size, spec.hidden_size, bias=spec.mlp_bias)
        self.activation = ACTIVATIONS[spec.hidden_activation]
        self.dropout = nn.Dropout(spec.mlp_dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        up_BTF, gate_BTF = self.up_gate(x_BTD).chunk(2, -1)
        output_BTD: Tensor = self.down(self.dropout(self.activation(up_BTF) * gate_BTF))
        return output_BTD


class ModernBertBlock(nn.Module):
    """Attention, then feed-forward, each normed before, the first attention excepted, and added after."""

    def __init__(self, spec: ModernBert, index: int) -> None:
        super().__init__()
        self.attention_norm = norm(spec) if index else nn.Identity()
        self.attention = ModernBertAttention(spec)
        self.feedforward_norm = norm(spec)
        self.feedforward = ModernBertFeedForward(spec)
        self.dropout = nn.Dropout(spec.attention_dropout)

    def forward(self, x_BTD: Tensor, mask: Mask, rope: Rope) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), mask, rope))
        output_BTD: Tensor = x_BTD + self.feedforward(self.feedforward_norm(x_BTD))
        return output_BTD


class ModernBertEncoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: ModernBert) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size, padding_idx=spec.pad_token_id)
        self.embedding_norm = norm(spec)
        self.dropout = nn.Dropout(spec.embedding_dropout)
        head_dim = spec.hidden_size // spec.num_attention_heads
        ropes = spec.rope_parameters
        self.full_positions = RotaryPositions(head_dim, ropes.full_attention)
        self.sliding_positions = RotaryPositions(head_dim, ropes.sliding_attention)
        self.layer_types = [spec.layer_type(index) for index in range(spec.num_hidden_layers)]
        self.blocks = nn.ModuleList(ModernBertBlock(spec, index) for index in range(spec.num_hidden_layers))
        self.norm = norm(spec)
        self.reach, self.start = spec.sliding_window, spec.start

    def reset_parameters(self) -> None:
        """Starts as in its authors' code: nothing far out, and what blocks add up the smaller the more do."""
        self.start(self.embedding.weight)
        for part in self.blocks.modules():
            if isinstance(part, ModernBertAttention):
                self.start(part.query_key_value.weight)
                self.start(part.output.get_parameter("weight"), is_added=True)
            elif isinstance(part, ModernBertFeedForward):
                self.start(part.up_gate.weight)
                self.start(part.down.weight, is_added=True)

    def forward(self, input_ids: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing all of its row."""
        positions_BT = mask.positions(input_ids)
        views = {
            "full_attention": (mask, self.full_positions(positions_BT)),
            "sliding_attention": (mask.within(self.reach), self.sliding_positions(positions_BT)),
        }
        x_BTD = self.dropout(self.embedding_norm(self.embedding(input_ids)))
        for block, layer_type in zip(self.blocks, self.layer_types, strict=True):
            x_BTD = block(x_BTD, *views[layer_type])
        output_BTD: Tensor = self.norm(x_BTD)
        return output_BTD
