"""What families that came from fairseq share: the words of their files, and two stacks around an embedding.

Ott et al., 2019: https://arxiv.org/abs/1904.01038. How a block norms and adds, each family says itself.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from zoo.generation import Cache
from zoo.layers import ACTIVATIONS, Attention, CrossAttention, DenseDropout, FeedForward, Mask
from zoo.specs import EncoderDecoderSpec, HubHead, require_divides, require_known

Side = Literal["encoder", "decoder"]


@dataclass(frozen=True, kw_only=True)
class FairseqSpec(EncoderDecoderSpec):
    """Sizes of both sides; defaults are those of BART's large model."""

    vocab_size: int = 50265
    hidden_size: int = 1024
    intermediate_size: int = 4096
    """Width of the encoder's feed-forward."""
    decoder_intermediate_size: int = 4096
    num_hidden_layers: int = 12
    """Blocks of the encoder."""
    num_decoder_layers: int = 12
    num_attention_heads: int = 16
    """Heads of the encoder."""
    num_decoder_attention_heads: int = 16
    max_position_embeddings: int = 1024
    hidden_act: str = "gelu"
    scale_embedding: bool = False
    """Whether embeddings are multiplied by the root of hidden_size."""
    dropout: float = 0.1
    """Probability of dropping a channel after the positions and before each sum."""
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    """Within the feed-forward."""
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    forced_eos_token_id: int | list[int] | None = 2
    """What a text ends with that has become as long as it may."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_divides(self, "num_attention_heads", "hidden_size")
        require_divides(self, "num_decoder_attention_heads", "hidden_size")
        require_known(self, "hidden_act", ACTIVATIONS)

    # The Hub's words on the left, ours on the right; read in both directions.
    renamed = {
        "d_model": "hidden_size",
        "encoder_ffn_dim": "intermediate_size",
        "decoder_ffn_dim": "decoder_intermediate_size",
        "encoder_layers": "num_hidden_layers",
        "decoder_layers": "num_decoder_layers",
        "encoder_attention_heads": "num_attention_heads",
        "decoder_attention_heads": "num_decoder_attention_heads",
        "activation_function": "hidden_act",
        "init_std": "initializer_range",
    }
    weights = {
        "model.shared.{}": "embedding.{}",
        "model.{}.layers.{}.self_attn.q_proj.{}": "{}.blocks.{}.attention.query.{}",
        "model.{}.layers.{}.self_attn.k_proj.{}": "{}.blocks.{}.attention.key.{}",
        "model.{}.layers.{}.self_attn.v_proj.{}": "{}.blocks.{}.attention.value.{}",
        "model.{}.layers.{}.self_attn.out_proj.{}": "{}.blocks.{}.attention.output.{}",
        "model.{}.layers.{}.self_attn_layer_norm.{}": "{}.blocks.{}.attention_norm.{}",
        "model.{}.layers.{}.encoder_attn.q_proj.{}": "{}.blocks.{}.cross_attention.query.{}",
        "model.{}.layers.{}.encoder_attn.k_proj.{}": "{}.blocks.{}.cross_attention.key.{}",
        "model.{}.layers.{}.encoder_attn.v_proj.{}": "{}.blocks.{}.cross_attention.value.{}",
        "model.{}.layers.{}.encoder_attn.out_proj.{}": "{}.blocks.{}.cross_attention.output.{}",
        "model.{}.layers.{}.encoder_attn_layer_norm.{}": "{}.blocks.{}.cross_attention_norm.{}",
        "model.{}.layers.{}.fc1.{}": "{}.blocks.{}.feedforward.up.{}",
        "model.{}.layers.{}.fc2.{}": "{}.blocks.{}.feedforward.down.{}",
        "model.{}.layers.{}.final_layer_norm.{}": "{}.blocks.{}.feedforward_norm.{}",
    }
    aliases = {
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
        "lm_head.weight": "model.shared.weight",
    }
    prefix = "model."
    without = {"encoder_layerdrop": "0", "decoder_layerdrop": "0"}
    unread = frozenset({"model.encoder.version", "model.decoder.version"})
    ignored = frozenset(
        {
            "add_bias_logits", "add_final_layer_norm", "bad_words_ids", "classif_dropout",
            "early_stopping", "extra_pos_embeddings", "force_bos_token_to_be_generated",
            "forced_bos_token_id", "length_penalty", "max_length", "min_length", "no_repeat_ngram_size",
            "normalize_before", "normalize_embedding", "num_beams", "output_past",
            "static_position_embeddings",
        }
    )  # fmt: skip
    tiny = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 56,
        "decoder_intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_decoder_layers": 2,
        "num_attention_heads": 4,
        "num_decoder_attention_heads": 2,
        "max_position_embeddings": 64,
    }


def writer(architecture: str) -> HubHead:
    """The head that writes, whose logits files may shift."""
    return HubHead(
        architecture, {"lm_head.{}": "projection.{}", "final_logits_bias": "shift.value"}, shifts=True
    )


def pooler(spec: Any) -> nn.Module:
    """What stands between the hidden state of a text's end and the labels."""
    return DenseDropout(spec.hidden_size, spec.classifier_dropout)


def classifier(architecture: str) -> HubHead:
    """The head that tells labels, of a spec that has a `classifier_dropout`."""
    return HubHead(
        architecture,
        {
            "classification_head.dense.{}": "transform.dense.{}",
            "classification_head.out_proj.{}": "projection.{}",
        },
        bias=True,
        transform=pooler,
        pooling="eos",
    )


class FairseqBlock(nn.Module):
    """The parts of a block: attention, in a decoder a look at what was read, and feed-forward."""

    def __init__(self, spec: FairseqSpec, *, is_decoder: bool) -> None:
        super().__init__()
        width, dropout = spec.hidden_size, spec.attention_dropout
        heads = spec.num_decoder_attention_heads if is_decoder else spec.num_attention_heads
        wide = spec.decoder_intermediate_size if is_decoder else spec.intermediate_size
        self.attention = Attention(width, heads, bias=True, dropout=dropout)
        self.attention_norm = nn.LayerNorm(width)
        if is_decoder:
            self.cross_attention = CrossAttention(width, heads, bias=True, dropout=dropout)
            self.cross_attention_norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, wide, spec.hidden_act, dropout=spec.activation_dropout)
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(spec.dropout)


class FairseqEncoderDecoder(nn.Module):
    """Ids of what is read and of what is written to the latter's hidden states.

    Args:
        spec: Of the family.
        embedding: Of all ids, or one of each side.
        encoder: Embeddings, their positions and a mask to hidden states.
        decoder: The same, given also what was read and a cache.
    """

    def __init__(
        self, spec: FairseqSpec, embedding: nn.Module, encoder: nn.Module, decoder: nn.Module
    ) -> None:
        super().__init__()
        self.embedding, self.encoder, self.decoder = embedding, encoder, decoder
        self.scale = math.sqrt(spec.hidden_size) if spec.scale_embedding else 1.0

    def forward(self, input_ids: Tensor, mask: Mask, decoder_input_ids: Tensor, decoder_mask: Mask) -> Tensor:
        """Hidden states (batch, decoder tokens, hidden_size) of what is written about what is read."""
        return self.decode(decoder_input_ids, decoder_mask, self.encode(input_ids, mask), mask)

    def encode(self, input_ids: Tensor, mask: Mask) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) of ids (batch, tokens), each seeing all of its row."""
        x_BSD = self._embed(input_ids, "encoder")
        output_BSD: Tensor = self.encoder(x_BSD, mask.positions(input_ids), mask)
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
        x_BTD = self._embed(decoder_input_ids, "decoder")
        positions_BT = mask.positions(decoder_input_ids, cache.length if cache else 0)
        seen = (memory, memory_mask.across(mask))
        output_BTD: Tensor = self.decoder(x_BTD, positions_BT, mask.causal(), seen, cache)
        return output_BTD

    def _embed(self, ids_BT: Tensor, side: Side) -> Tensor:
        is_shared = isinstance(self.embedding, nn.Embedding)
        table = self.embedding if is_shared else self.embedding.get_submodule(side)
        embedded_BTD: Tensor = table(ids_BT) * self.scale
        return embedded_BTD


def embedding(spec: FairseqSpec, vocab_size: int) -> nn.Embedding:
    """Of so many ids, of which padding has none."""
    return nn.Embedding(vocab_size, spec.hidden_size, padding_idx=spec.pad_token_id)
