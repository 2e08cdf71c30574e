"""mBART: BART in many languages, normed before each part, each text followed by its language.

Liu et al., 2020: https://arxiv.org/abs/2001.08210
Fifty languages, Tang et al., 2020: https://arxiv.org/abs/2008.00401
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
class MBart(FairseqSpec):
    """Sizes of an mBART; defaults are config.json's own."""

    classifier_dropout: float = 0.0

    def build(self) -> FairseqEncoderDecoder:
        """The backbone, without weights of its own choosing."""
        return FairseqEncoderDecoder(
            self,
            embedding(self, self.vocab_size),
            MBartStack(self, self.num_hidden_layers, is_decoder=False),
            MBartStack(self, self.num_decoder_layers, is_decoder=True),
        )

    @property
    def start_id(self) -> int | None:
        """What stands before the first token that is written: a language, or what begins any text."""
        start = self.decoder_start_token_id
        return self.bos_token_id if start is None else start

    # The Hub's words on the left, ours on the right; read in both directions.
    weights = {
        **FairseqSpec.weights,
        "model.{}.embed_positions.{}": "{}.positions.{}",
        "model.{}.layernorm_embedding.{}": "{}.embedding_norm.{}",
        "model.{}.layer_norm.{}": "{}.norm.{}",
    }
    heads = {
        "Seq2SeqLM": writer("MBartForConditionalGeneration"),
        "SequenceClassification": classifier("MBartForSequenceClassification"),
        "ExtractiveQA": HubHead("MBartForQuestionAnswering", {"qa_outputs.{}": "projection.{}"}, bias=True),
    }
    begins_with = "last"


class MBartBlock(FairseqBlock):
    """Attention, in a decoder a look at what was read, then feed-forward: each normed before, added after."""

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


class MBartStack(nn.Module):
    """The positions and the blocks of either side, normed before the first and after the last."""

    def __init__(self, spec: MBart, num_layers: int, *, is_decoder: bool) -> None:
        super().__init__()
        self.positions = nn.Embedding(spec.max_position_embeddings + BEFORE_POSITIONS, spec.hidden_size)
        self.embedding_norm = nn.LayerNorm(spec.hidden_size)
        self.dropout = nn.Dropout(spec.dropout)
        self.blocks = nn.ModuleList(MBartBlock(spec, is_decoder=is_decoder) for _ in range(num_layers))
        self.norm = nn.LayerNorm(spec.hidden_size)

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor,
        mask: Mask,
        memory: tuple[Tensor, Mask] | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states of embeddings (batch, tokens, hidden_size)."""
        x_BTD = self.embedding_norm(x_BTD + self.positions(positions_BT + BEFORE_POSITIONS))
        x_BTD = self.dropout(x_BTD)
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, mask, memory, cache.layer(index) if cache else None)
        output_BTD: Tensor = self.norm(x_BTD)
        return output_BTD
