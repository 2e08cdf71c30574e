"""T5: an encoder-decoder that knows distances between tokens, not their positions.

Raffel et al., 2019: https://arxiv.org/abs/1910.10683
Version 1.1 and Flan gate the feed-forward, and have a projection onto the vocabulary of their own:
Shazeer, 2020: https://arxiv.org/abs/2002.05202
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zoo.generation import Cache
from zoo.layers import (
    ACTIVATIONS,
    Attention,
    CrossAttention,
    DenseDropout,
    KeyValueCache,
    Linear,
    Mask,
    RelativePositions,
    RMSNorm,
)
from zoo.specs import EncoderDecoderSpec, HubHead, require_known

FEED_FORWARDS = {
    **{name: (False, name) for name in ACTIVATIONS},
    **{f"gated-{name}": (True, name) for name in ACTIVATIONS},
    "gated-gelu": (True, "gelu_new"),  # the Hub's files say so and mean the approximation
}
"""config.json's `feed_forward_proj`: whether there is a gate, and the activation."""


class T5Scale(nn.Module):
    """Where the embedding is the projection, hidden states are made as small as it is large."""

    def __init__(self, spec: "T5") -> None:
        super().__init__()
        self.factor = spec.hidden_size**-0.5 if spec.tie_word_embeddings else 1.0

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, hidden_size) in and out."""
        return hidden * self.factor


def pooler(spec: "T5") -> nn.Module:
    """What stands between the hidden state of a text's end and the labels."""
    return DenseDropout(spec.hidden_size, spec.classifier_dropout)


@dataclass(frozen=True, kw_only=True)
class T5(EncoderDecoderSpec):
    """Sizes of a T5; defaults are the paper's small model."""

    vocab_size: int = 32128
    hidden_size: int = 512
    head_dim: int = 64
    """Width of a head, whatever the heads' number and hidden_size are."""
    intermediate_size: int = 2048
    """Width of the feed-forward."""
    num_hidden_layers: int = 6
    """Blocks of the encoder."""
    num_decoder_layers: int | None = None
    """Blocks of the decoder; None: as many as of the encoder."""
    num_attention_heads: int = 8
    max_position_embeddings: int = 512
    """The longest text of pre-training; longer ones can be read."""
    relative_attention_num_buckets: int = 32
    """Ranges of distance that are told apart."""
    relative_attention_max_distance: int = 128
    """From here on, distances are one."""
    feed_forward_proj: str = "relu"
    """An activation, or a gated one: gated-gelu."""
    layer_norm_epsilon: float = 1e-6
    dropout_rate: float = 0.1
    """Probability of dropping a channel before each sum, or a weight of attention."""
    classifier_dropout: float = 0.0
    initializer_factor: float = 1.0
    """Factor of the backbone's fresh weights; initializer_range is for heads."""
    tie_word_embeddings: bool = True
    """Whether the embedding is the projection onto the vocabulary; what is projected is then scaled."""
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    decoder_start_token_id: int | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known(self, "feed_forward_proj", FEED_FORWARDS)

    def build(self) -> "T5EncoderDecoder":
        """The backbone, without weights of its own choosing."""
        return T5EncoderDecoder(self)

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that config.json's keys speak of.

        Files since 2026 call every model tied, and say `scale_decoder_outputs: false` of what is not.
        We write `tie_word_embeddings: false`, which readers before and since understand.
        """
        values = super().of_config(config)
        if values.pop("scale_decoder_outputs", True) is False:
            values["tie_word_embeddings"] = False
        return values

    # The Hub's words on the left, ours on the right; read in both directions.
    renamed = {
        "d_model": "hidden_size",
        "d_kv": "head_dim",
        "d_ff": "intermediate_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "n_positions": "max_position_embeddings",
    }
    weights = {
        "shared.{}": "embedding.{}",
        "{}.block.0.layer.0.SelfAttention.relative_attention_bias.{}": "{}.positions.bias.{}",
        "{}.block.{}.layer.0.SelfAttention.q.{}": "{}.blocks.{}.attention.query.{}",
        "{}.block.{}.layer.0.SelfAttention.k.{}": "{}.blocks.{}.attention.key.{}",
        "{}.block.{}.layer.0.SelfAttention.v.{}": "{}.blocks.{}.attention.value.{}",
        "{}.block.{}.layer.0.SelfAttention.o.{}": "{}.blocks.{}.attention.output.{}",
        "{}.block.{}.layer.0.layer_norm.{}": "{}.blocks.{}.attention_norm.{}",
        "{}.block.{}.layer.1.EncDecAttention.q.{}": "{}.blocks.{}.cross_attention.query.{}",
        "{}.block.{}.layer.1.EncDecAttention.k.{}": "{}.blocks.{}.cross_attention.key.{}",
        "{}.block.{}.layer.1.EncDecAttention.v.{}": "{}.blocks.{}.cross_attention.value.{}",
        "{}.block.{}.layer.1.EncDecAttention.o.{}": "{}.blocks.{}.cross_attention.output.{}",
        "{}.block.{}.layer.1.layer_norm.{}": "{}.blocks.{}.cross_attention_norm.{}",
        "encoder.block.{}.layer.1.DenseReluDense.wo.{}": "encoder.blocks.{}.feedforward.down.{}",
        "encoder.block.{}.layer.1.DenseReluDense.{}.{}": "encoder.blocks.{}.feedforward.up.{}.{}",
        "encoder.block.{}.layer.1.layer_norm.{}": "encoder.blocks.{}.feedforward_norm.{}",
        "decoder.block.{}.layer.2.DenseReluDense.wo.{}": "decoder.blocks.{}.feedforward.down.{}",
        "decoder.block.{}.layer.2.DenseReluDense.{}.{}": "decoder.blocks.{}.feedforward.up.{}.{}",
        "decoder.block.{}.layer.2.layer_norm.{}": "decoder.blocks.{}.feedforward_norm.{}",
        "{}.final_layer_norm.{}": "{}.norm.{}",
    }
    heads = {
        "Seq2SeqLM": HubHead(
            "T5ForConditionalGeneration", {"lm_head.{}": "projection.{}"}, transform=T5Scale
        ),
        "SequenceClassification": HubHead(
            "T5ForSequenceClassification",
            {
                "classification_head.dense.{}": "transform.dense.{}",
                "classification_head.out_proj.{}": "projection.{}",
            },
            bias=True,
            transform=pooler,
            pooling="eos",
            prefix="transformer.",
        ),
        "ExtractiveQA": HubHead("T5ForQuestionAnswering", {"qa_outputs.{}": "projection.{}"}, bias=True),
    }
    aliases = {
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
        "lm_head.weight": "shared.weight",
    }
    ignored = frozenset({"dense_act_fn", "is_gated_act", "output_past"})
    prefix = "transformer."
    unread = frozenset({"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"})
    is_bounded = False
    expected_failures = {
        "fresh_weights_have_the_scale_of_the_spec": "each matrix starts at a scale of its own, as in its "
        "authors' code; `initializer_factor` moves them all"
    }
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "head_dim": 12,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }


class T5FeedForward(nn.Module):
    """Widen, bend, narrow; where it is gated, a second wide half is the gate."""

    tensor_parallel = {"up.*": "colwise", "down": "rowwise"}

    def __init__(self, spec: T5) -> None:
        super().__init__()
        is_gated, activation = FEED_FORWARDS[spec.feed_forward_proj]
        width, wide = spec.hidden_size, spec.intermediate_size
        names = ("wi_0", "wi_1") if is_gated else ("wi",)  # the Hub's, by which the two kinds differ
        self.up = nn.ModuleDict({name: Linear(width, wide, bias=False) for name in names})
        self.down = Linear(wide, width, bias=False)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(spec.dropout_rate)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        first_BTF, *gates = (part(x_BTD) for part in self.up.values())
        bent_BTF = math.prod(gates, start=self.activation(first_BTF))
        output_BTD: Tensor = self.down(self.dropout(bent_BTF))
        return output_BTD


class T5Block(nn.Module):
    """Attention, in a decoder a look at what was read, then feed-forward: each normed before, added after."""

    def __init__(self, spec: T5, *, is_decoder: bool) -> None:
        super().__init__()

        def norm() -> RMSNorm:
            return RMSNorm(spec.hidden_size, spec.layer_norm_epsilon)

        sizes = (spec.hidden_size, spec.num_attention_heads)
        self.attention_norm = norm()
        self.attention = Attention(*sizes, head_dim=spec.head_dim, dropout=spec.dropout_rate, scale=1.0)
        if is_decoder:
            self.cross_attention_norm = norm()
            self.cross_attention = CrossAttention(
                *sizes, head_dim=spec.head_dim, dropout=spec.dropout_rate, scale=1.0
            )
        self.feedforward_norm = norm()
        self.feedforward = T5FeedForward(spec)
        self.dropout = nn.Dropout(spec.dropout_rate)

    def forward(
        self,
        x_BTD: Tensor,
        mask: Mask,
        memory: tuple[Tensor, Mask] | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out; a decoder's are given what was read."""
        x_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), mask, cache=cache))
        if memory is not None:
            normed_BTD = self.cross_attention_norm(x_BTD)
            x_BTD = x_BTD + self.dropout(self.cross_attention(normed_BTD, *memory, cache))
        output_BTD: Tensor = x_BTD + self.dropout(self.feedforward(self.feedforward_norm(x_BTD)))
        return output_BTD


class T5Stack(nn.Module):
    """The blocks of either side, which share what they know of distances."""

    def __init__(self, spec: T5, num_layers: int, *, is_decoder: bool) -> None:
        super().__init__()
        self.positions = RelativePositions(
            spec.num_attention_heads,
            num_buckets=spec.relative_attention_num_buckets,
            max_distance=spec.relative_attention_max_distance,
            is_causal=is_decoder,
        )
        self.blocks = nn.ModuleList(T5Block(spec, is_decoder=is_decoder) for _ in range(num_layers))
        self.norm = RMSNorm(spec.hidden_size, spec.layer_norm_epsilon)
        self.dropout = nn.Dropout(spec.dropout_rate)

    def forward(
        self,
        x_BTD: Tensor,
        mask: Mask,
        memory: tuple[Tensor, Mask] | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out."""
        seen = mask.biased(self._distances(x_BTD.shape[1], cache))
        x_BTD = self.dropout(x_BTD)
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, seen, memory, cache.layer(index) if cache else None)
        output_BTD: Tensor = self.dropout(self.norm(x_BTD))
        return output_BTD

    def _distances(self, num_queries: int, cache: Cache | None) -> Tensor:
        """What is added to the scores (1, heads, queries, keys)."""
        num_keys = num_queries + (cache.length if cache else 0)
        if cache is None or num_queries > 1:
            biases_BHTS: Tensor = self.positions(num_queries, num_keys)
            return biases_BHTS
        # One token's are the end of what the last token of all will add.
        longest_BHTS: Tensor = cache.once("distances", lambda: self.positions(1, cache.max_tokens))
        return longest_BHTS[..., -num_keys:]


class T5EncoderDecoder(nn.Module):
    """Ids of what is read and of what is written to the latter's hidden states."""

    def __init__(self, spec: T5) -> None:
        super().__init__()
        num_encoder, num_decoder = spec.num_hidden_layers, spec.num_decoder_layers
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.encoder = T5Stack(spec, num_encoder, is_decoder=False)
        self.decoder = T5Stack(spec, num_encoder if num_decoder is None else num_decoder, is_decoder=True)
        self.initializer_factor = spec.initializer_factor

    def reset_parameters(self) -> None:
        """Starts as in its authors' code."""
        width = self.embedding.embedding_dim
        nn.init.normal_(self.embedding.weight, std=self.initializer_factor)
        for part in (part for stack in (self.encoder, self.decoder) for part in stack.modules()):
            if isinstance(part, nn.Embedding):
                nn.init.normal_(part.weight, std=self.initializer_factor * width**-0.5)
            elif isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=self.initializer_factor * part.in_features**-0.5)
        for part in self.modules():
            if isinstance(part, Attention):  # in place of a scale of the scores
                part.query.weight.mul_(part.head_dim**-0.5)

    def forward(self, input_ids: Tensor, mask: Mask, decoder_input_ids: Tensor, decoder_mask: Mask) -> Tensor:
        """Hidden states (batch, decoder tokens, hidden_size) of what is written about what is read."""
        return self.decode(decoder_input_ids, decoder_mask, self.encode(input_ids, mask), mask)

    def encode(self, input_ids: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing all of its row."""
        output_BSD: Tensor = self.encoder(self.embedding(input_ids), mask)
        return output_BSD

    def decode(
        self,
        decoder_input_ids: Tensor,
        mask: Mask,
        memory: Tensor,
        memory_mask: Mask,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states of ids, each seeing those before it and what `encode` made of another text."""
        x_BTD = self.embedding(decoder_input_ids)
        seen = (memory, memory_mask.across(mask))
        output_BTD: Tensor = self.decoder(x_BTD, mask.causal(), seen, cache)
        return output_BTD
