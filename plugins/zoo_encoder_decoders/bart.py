"""BART: the Transformer with learned positions, trained to mend texts.

Lewis et al., 2019: https://arxiv.org/abs/1910.13461
"""

from dataclasses import dataclass

from torch import Tensor, nn

from zoo.generation import Cache
from zoo.layers import KeyValueCache, Mask
from zoo.specs import HubHead
from zoo_encoder_decoders.fairseq import (
    FairseqBlock,
    FairseqEncoderDecoder,
    FairseqSpec,
    classifier,
    embedding,
    writer,
)

BEFORE_POSITIONS = 2
"""Rows of the table of positions that stand for no token's."""


@dataclass(frozen=True, kw_only=True)
class Bart(FairseqSpec):
    """Sizes of a BART; defaults are the paper's large model."""

    classifier_dropout: float = 0.0
    decoder_start_token_id: int | None = 2

    def build(self) -> FairseqEncoderDecoder:
        """The backbone, without weights of its own choosing."""
        return FairseqEncoderDecoder(
            self,
            embedding(self, self.vocab_size),
            BartStack(self, self.num_hidden_layers, is_decoder=False),
            BartStack(self, self.num_decoder_layers, is_decoder=True),
        )

    # The Hub's words on the left, ours on the right; read in both directions.
    weights = {
        **FairseqSpec.weights,
        "model.{}.embed_positions.{}": "{}.positions.{}",
        "model.{}.layernorm_embedding.{}": "{}.norm.{}",
    }
    heads = {
        "Seq2SeqLM": writer("BartForConditionalGeneration"),
        "SequenceClassification": classifier("BartForSequenceClassification"),
        "ExtractiveQA": HubHead("BartForQuestionAnswering", {"qa_outputs.{}": "projection.{}"}, bias=True),
    }


class BartBlock(FairseqBlock):
    """Attention, in a decoder a look at what was read, then feed-forward: each added and normed after."""

    def forward(
        self,
        x_BTD: Tensor,
        mask: Mask,
        memory: tuple[Tensor, Mask] | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Hidden states (batch, tokens, hidden_size) in and out; a decoder's are given what was read."""
        x_BTD = self.attention_norm(x_BTD + self.dropout(self.attention(x_BTD, mask, cache=cache)))
        if memory is not None:
            seen_BTD = self.cross_attention(x_BTD, *memory, cache)
            x_BTD = self.cross_attention_norm(x_BTD + self.dropout(seen_BTD))
        output_BTD: Tensor = self.feedforward_norm(x_BTD + self.dropout(self.feedforward(x_BTD)))
        return output_BTD


class BartStack(nn.Module):
    """The positions and the blocks of either side."""

    def __init__(self, spec: Bart, num_layers: int, *, is_decoder: bool) -> None:
        super().__init__()
        self.positions = nn.Embedding(spec.max_position_embeddings + BEFORE_POSITIONS, spec.hidden_size)
        self.norm = nn.LayerNorm(spec.hidden_size)
        self.dropout = nn.Dropout(spec.dropout)
        self.blocks = nn.ModuleList(BartBlock(spec, is_decoder=is_decoder) for _ in range(num_layers))

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor,
        mask: Mask,
        memory: tuple[Tensor, Mask] | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states of embeddings (batch, tokens, hidden_size)."""
        x_BTD = self.dropout(self.norm(x_BTD + self.positions(positions_BT + BEFORE_POSITIONS)))
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, mask, memory, cache.layer(index) if cache else None)
        return x_BTD
