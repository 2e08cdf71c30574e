"""GPT-2: a decoder-only Transformer with learned positions and norms before each part.

Radford et al., 2019: https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.generation import Cache
from zoo.layers import ACTIVATIONS, HeadAttention, KeyValueCache, Linear, Mask, product
from zoo.specs import DecoderSpec, HubHead, require_divides, require_known


@dataclass(frozen=True, kw_only=True)
class GPT2(DecoderSpec):
    """Sizes of a GPT-2; defaults are its smallest, of 124 million parameters."""

    vocab_size: int = 50257
    hidden_size: int = 768
    intermediate_size: int | None = None
    """Width of the feed-forward; None: 4 · hidden_size."""
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 1024
    hidden_act: str = "gelu_new"
    layer_norm_eps: float = 1e-5
    embedding_dropout: float = 0.1
    attention_dropout: float = 0.1
    residual_dropout: float = 0.1
    """Probability of dropping a channel of what a part adds."""
    scale_attn_weights: bool = True
    """Whether scores are divided by the root of a head's width."""
    scale_attn_by_inverse_layer_idx: bool = False
    """Whether scores are also divided by the layer's number, from one."""
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)

    def build(self) -> "GPT2Decoder":
        """The backbone, without weights of its own choosing."""
        return GPT2Decoder(self)

    # The Hub's words on the left, ours on the right; read in both directions.
    renamed = {
        "n_embd": "hidden_size",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_positions": "max_position_embeddings",
        "activation_function": "hidden_act",
        "layer_norm_epsilon": "layer_norm_eps",
        "embd_pdrop": "embedding_dropout",
        "attn_pdrop": "attention_dropout",
        "resid_pdrop": "residual_dropout",
    }
    weights = {
        "transformer.wte.{}": "embedding.{}",
        "transformer.wpe.{}": "positions.{}",
        "transformer.h.{}.ln_1.{}": "blocks.{}.attention_norm.{}",
        "transformer.h.{}.attn.c_attn.{}": "blocks.{}.attention.query_key_value.{}",
        "transformer.h.{}.attn.c_proj.{}": "blocks.{}.attention.output.{}",
        "transformer.h.{}.ln_2.{}": "blocks.{}.feedforward_norm.{}",
        "transformer.h.{}.mlp.c_fc.{}": "blocks.{}.feedforward.up.{}",
        "transformer.h.{}.mlp.c_proj.{}": "blocks.{}.feedforward.down.{}",
        "transformer.ln_f.{}": "norm.{}",
    }
    heads = {
        "CausalLM": HubHead("GPT2LMHeadModel", {"lm_head.{}": "projection.{}"}),
        "SequenceClassification": HubHead(
            "GPT2ForSequenceClassification", {"score.{}": "projection.{}"}, pooling="last"
        ),
        "TokenClassification": HubHead(
            "GPT2ForTokenClassification", {"classifier.{}": "projection.{}"}, bias=True
        ),
        "ExtractiveQA": HubHead("GPT2ForQuestionAnswering", {"qa_outputs.{}": "projection.{}"}, bias=True),
    }
    prefix = "transformer."
    undivided = "queries, keys and values are thirds of one product"
    unread = frozenset({"transformer.h.{}.attn.bias", "transformer.h.{}.attn.masked_bias"})
    ignored = frozenset(
        {
            "add_cross_attention", "n_ctx", "reorder_and_upcast_attn", "summary_activation",
            "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
        }
    )  # fmt: skip
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }


class Affine(nn.Module):
    """`x · weight + bias`, with the weight as GPT-2's files hold it: (inputs, outputs)."""

    def __init__(self, num_inputs: int, num_outputs: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_inputs, num_outputs))
        self.bias = nn.Parameter(torch.empty(num_outputs))
        self.std = std

    def reset_parameters(self) -> None:
        """Weights from N(0, std²), biases zero."""
        nn.init.normal_(self.weight, std=self.std)
        nn.init.zeros_(self.bias)

    def as_linear(self) -> Linear:
        """The same map with the weight as torch holds it, for what knows no other."""
        num_inputs, num_outputs = self.weight.shape
        made = Linear(num_inputs, num_outputs, device="meta")
        made.weight, made.bias = nn.Parameter(self.weight.T), self.bias
        return made

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs)."""
        return product(x, self.weight.T, self.bias)


def residual_std(spec: GPT2) -> float:
    """What each block adds starts smaller, the deeper the model: section 2.3."""
    return spec.initializer_range / math.sqrt(2 * spec.num_hidden_layers)


class GPT2Attention(HeadAttention):
    """Self-attention whose queries, keys and values come from one product."""

    def __init__(self, spec: GPT2, index: int) -> None:
        head_dim = spec.hidden_size // spec.num_attention_heads
        scale = head_dim**-0.5 if spec.scale_attn_weights else 1.0
        if spec.scale_attn_by_inverse_layer_idx:
            scale /= index + 1
        super().__init__(head_dim, dropout=spec.attention_dropout, scale=scale)
        self.query_key_value = Affine(spec.hidden_size, 3 * spec.hidden_size, spec.initializer_range)
        self.output = Affine(spec.hidden_size, spec.hidden_size, residual_std(spec))

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, heads, tokens, head_dim)."""
        q_BHTK, k_BHTK, v_BHTK = map(self.heads, self.query_key_value(x_BTD).chunk(3, -1))
        return q_BHTK, k_BHTK, v_BHTK


class GPT2FeedForward(nn.Module):
    """Widen, bend, narrow."""

    def __init__(self, spec: GPT2) -> None:
        super().__init__()
        width = spec.intermediate_size or 4 * spec.hidden_size
        self.up = Affine(spec.hidden_size, width, spec.initializer_range)
        self.down = Affine(width, spec.hidden_size, residual_std(spec))
        self.activation = ACTIVATIONS[spec.hidden_act]

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        output_BTD: Tensor = self.down(self.activation(self.up(x_BTD)))
        return output_BTD


class GPT2Block(nn.Module):
    """Attention, then feed-forward, each normed before and added after."""

    def __init__(self, spec: GPT2, index: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.attention = GPT2Attention(spec, index)
        self.feedforward_norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.feedforward = GPT2FeedForward(spec)
        self.dropout = nn.Dropout(spec.residual_dropout)

    def forward(self, x_BTD: Tensor, mask: Mask, cache: KeyValueCache | None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        x_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), mask, cache=cache))
        output_BTD: Tensor = x_BTD + self.dropout(self.feedforward(self.feedforward_norm(x_BTD)))
        return output_BTD


class GPT2Decoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: GPT2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.positions = nn.Embedding(spec.max_position_embeddings, spec.hidden_size)
        self.dropout = nn.Dropout(spec.embedding_dropout)
        self.blocks = nn.ModuleList(GPT2Block(spec, index) for index in range(spec.num_hidden_layers))
        self.norm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)

    def forward(self, input_ids: Tensor, mask: Mask, cache: Cache | None = None) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing those before it."""
        positions_BT = mask.positions(input_ids, cache.length if cache else 0)
        x_BTD = self.dropout(self.embedding(input_ids) + self.positions(positions_BT))
        mask = mask.causal()
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, mask, cache.layer(index) if cache else None)
        output_BTD: Tensor = self.norm(x_BTD)
        return output_BTD
