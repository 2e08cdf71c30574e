"""GPT-NeoX: attention and feed-forward side by side, with rotations of some channels; Pythia's family, too.

Black et al., 2022: https://arxiv.org/abs/2204.06745
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from zoo.generation import Cache
from zoo.layers import (
    ACTIVATIONS,
    FeedForward,
    HeadAttention,
    KeyValueCache,
    Linear,
    Mask,
    Rope,
    RopeParameters,
    RotaryPositions,
)
from zoo.specs import DecoderSpec, HubHead, require_divides, require_known


@dataclass(frozen=True, kw_only=True)
class GPTNeoX(DecoderSpec):
    """Sizes of a GPT-NeoX; defaults are the paper's 20B."""

    vocab_size: int = 50432
    hidden_size: int = 6144
    intermediate_size: int = 24576
    """Width of the feed-forward."""
    num_hidden_layers: int = 44
    num_attention_heads: int = 64
    max_position_embeddings: int = 2048
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    rope_parameters: RopeParameters = field(
        default_factory=lambda: RopeParameters(partial_rotary_factor=0.25)
    )
    use_parallel_residual: bool = True
    """Whether the feed-forward sees what attention saw, or what attention made of it."""
    attention_bias: bool = True
    hidden_dropout: float = 0.0
    """Probability of dropping a channel of the embedding, and of what a part adds."""
    attention_dropout: float = 0.0
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)

    def build(self) -> "GPTNeoXDecoder":
        """The backbone, without weights of its own choosing."""
        return GPTNeoXDecoder(self)

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that config.json's keys speak of; files before 2026 have words of their own for rope."""
        values = super().of_config(config)
        base, share = values.pop("rotary_emb_base", 10000.0), values.pop("rotary_pct", 0.25)
        rope = values.get("rope_parameters")
        if rope is None or isinstance(rope, Mapping):
            values["rope_parameters"] = {"rope_theta": base, "partial_rotary_factor": share, **(rope or {})}
        return values

    # Hub name on the left, ours on the right; read in both directions.
    weights = {
        "gpt_neox.embed_in.{}": "embedding.{}",
        "gpt_neox.layers.{}.input_layernorm.{}": "blocks.{}.attention_norm.{}",
        "gpt_neox.layers.{}.attention.query_key_value.{}": "blocks.{}.attention.query_key_value.{}",
        "gpt_neox.layers.{}.attention.dense.{}": "blocks.{}.attention.output.{}",
        "gpt_neox.layers.{}.post_attention_layernorm.{}": "blocks.{}.feedforward_norm.{}",
        "gpt_neox.layers.{}.mlp.dense_h_to_4h.{}": "blocks.{}.feedforward.up.{}",
        "gpt_neox.layers.{}.mlp.dense_4h_to_h.{}": "blocks.{}.feedforward.down.{}",
        "gpt_neox.final_layer_norm.{}": "norm.{}",
    }
    heads = {
        "CausalLM": HubHead("GPTNeoXForCausalLM", {"embed_out.{}": "projection.{}"}),
        "SequenceClassification": HubHead("GPTNeoXForSequenceClassification", {"score.{}": "projection.{}"}),
        "TokenClassification": HubHead(
            "GPTNeoXForTokenClassification", {"classifier.{}": "projection.{}"}, bias=True
        ),
        "ExtractiveQA": HubHead("GPTNeoXForQuestionAnswering", {"qa_outputs.{}": "projection.{}"}, bias=True),
    }
    prefix = "gpt_neox."
    unread = frozenset(
        {
            "gpt_neox.layers.{}.attention.bias",
            "gpt_neox.layers.{}.attention.masked_bias",
            "gpt_neox.layers.{}.attention.rotary_emb.inv_freq",
        }
    )
    ignored = frozenset({"classifier_dropout"})
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }


class GPTNeoXAttention(HeadAttention):
    """Attention whose queries, keys and values come from one product, those of each head side by side."""

    tensor_parallel = {"output": "rowwise", "query_key_value": "colwise"}  # heads are counted by the first

    def __init__(self, spec: GPTNeoX) -> None:
        width, bias = spec.hidden_size, spec.attention_bias
        super().__init__(width // spec.num_attention_heads, dropout=spec.attention_dropout)
        self.query_key_value = Linear(width, 3 * width, bias=bias)
        self.output = Linear(width, width, bias=bias)

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, heads, tokens, head_dim), before they are turned."""
        parts_BHTK = self.query_key_value(x_BTD).unflatten(-1, (-1, 3 * self.head_dim)).transpose(1, 2)
        q_BHTK, k_BHTK, v_BHTK = parts_BHTK.chunk(3, -1)
        return q_BHTK, k_BHTK, v_BHTK


class GPTNeoXBlock(nn.Module):
    """Attention and feed-forward of the same hidden states, each normed before, added together."""

    def __init__(self, spec: GPTNeoX) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.attention = GPTNeoXAttention(spec)
        self.feedforward_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.feedforward = FeedForward(spec.hidden_size, spec.intermediate_size, spec.hidden_act)
        self.dropout = nn.Dropout(spec.hidden_dropout)
        self.is_parallel = spec.use_parallel_residual

    def forward(self, x_BTD: Tensor, mask: Mask, rope: Rope, cache: KeyValueCache | None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        seen_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), mask, rope, cache))
        read_BTD = x_BTD if self.is_parallel else seen_BTD
        output_BTD: Tensor = seen_BTD + self.dropout(self.feedforward(self.feedforward_norm(read_BTD)))
        return output_BTD


class GPTNeoXDecoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: GPTNeoX) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.positions = RotaryPositions(spec.hidden_size // spec.num_attention_heads, spec.rope_parameters)
        self.dropout = nn.Dropout(spec.hidden_dropout)
        self.blocks = nn.ModuleList(GPTNeoXBlock(spec) for _ in range(spec.num_hidden_layers))
        self.norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        rope = self.positions(mask.positions(input_ids, cache.length if cache else 0))
        x_BTD = self.dropout(self.embedding(input_ids))
        mask = mask.causal()
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, mask, rope, cache.layer(index) if cache else None)
        output_BTD: Tensor = self.norm(x_BTD)
        return output_BTD
