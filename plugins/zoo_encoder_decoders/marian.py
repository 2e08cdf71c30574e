"""Marian: the Transformer as its authors' toolkit trains it to translate.

Junczys-Dowmunt et al., 2018: https://arxiv.org/abs/1804.00344
"""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from zoo.errors import SpecError
from zoo.generation import Cache
from zoo.layers import KeyValueCache, Mask, SinusoidalPositions
from zoo.specs import HubHead
from zoo_encoder_decoders.fairseq import (
    FairseqBlock,
    FairseqEncoderDecoder,
    FairseqSpec,
    embedding,
    writer,
)


@dataclass(frozen=True, kw_only=True)
class Marian(FairseqSpec):
    """Sizes of a Marian; defaults are config.json's own."""

    vocab_size: int = 58101
    decoder_vocab_size: int | None = None
    """Tokens that can be written; None: as many as are read."""
    share_encoder_decoder_embeddings: bool = True
    """Whether one vocabulary is read and written; else each side has an embedding of its own."""
    pad_token_id: int | None = 58100
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 0
    decoder_start_token_id: int | None = 58100
    forced_eos_token_id: int | list[int] | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.share_encoder_decoder_embeddings and self.num_written != self.vocab_size:
            raise SpecError(
                f"`decoder_vocab_size` must be vocab_size, {self.vocab_size}, "
                f"where embeddings are shared, got {self.num_written}",
                at="decoder_vocab_size",
                hint="set share_encoder_decoder_embeddings to false",
            )
        if self.hidden_size % 2:
            raise SpecError(
                f"`hidden_size` must be even, half of it being sines, got {self.hidden_size}",
                at="hidden_size",
            )

    @property
    def num_written(self) -> int:
        """Tokens that can be written."""
        return self.vocab_size if self.decoder_vocab_size is None else self.decoder_vocab_size

    def build(self) -> FairseqEncoderDecoder:
        """The backbone, without weights of its own choosing."""
        own = {"encoder": self.vocab_size, "decoder": self.num_written}
        return FairseqEncoderDecoder(
            self,
            embedding(self, self.vocab_size)
            if self.share_encoder_decoder_embeddings
            else nn.ModuleDict({side: embedding(self, number) for side, number in own.items()}),
            MarianStack(self, self.num_hidden_layers, is_decoder=False),
            MarianStack(self, self.num_decoder_layers, is_decoder=True),
        )

    def hub_head(self, name: str) -> HubHead:
        """How the head of this class name stands on the Hub."""
        head = super().hub_head(name)
        if self.share_encoder_decoder_embeddings:
            return head
        return replace(head, num_words=self.num_written, tied="embedding.decoder.weight")

    # The Hub's words on the left, ours on the right; read in both directions.
    weights = {**FairseqSpec.weights, "model.{}.embed_tokens.{}": "embedding.{}.{}"}
    heads = {"Seq2SeqLM": writer("MarianMTModel")}
    unread = frozenset({"model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"})
    ignored = FairseqSpec.ignored | {"classifier_dropout"}
    tiny = {**FairseqSpec.tiny, "pad_token_id": 1, "decoder_start_token_id": 1}


class MarianBlock(FairseqBlock):
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


class MarianStack(nn.Module):
    """The positions and the blocks of either side."""

    def __init__(self, spec: Marian, num_layers: int, *, is_decoder: bool) -> None:
        super().__init__()
        self.positions = SinusoidalPositions(spec.max_position_embeddings, spec.hidden_size, in_halves=True)
        self.dropout = nn.Dropout(spec.dropout)
        self.blocks = nn.ModuleList(MarianBlock(spec, is_decoder=is_decoder) for _ in range(num_layers))

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor,
        mask: Mask,
        memory: tuple[Tensor, Mask] | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states of embeddings (batch, tokens, hidden_size)."""
        x_BTD = self.dropout(x_BTD + self.positions(positions_BT).to(x_BTD.dtype))
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, mask, memory, cache.layer(index) if cache else None)
        return x_BTD
