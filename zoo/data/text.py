"""Language modelling on documents: tokenised once, cut into rows."""

import gzip
import math
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Self

import numpy as np
from torch.utils.data import DataLoader

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind, ZooData, require_least, require_share
from zoo.data.loading import Collate, HeldOut, Loader
from zoo.data.masking import Masking
from zoo.data.measures import Measure
from zoo.data.on_disk import Chosen
from zoo.data.packing import Packing
from zoo.data.reading import Document, read
from zoo.data.rows import Pieces, Rows, token_file
from zoo.data.samples import write_rows
from zoo.data.splits import halves
from zoo.data.splitting import split, warn_of_leaks
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.modules.base import ZooModule
from zoo.tokenizer import Tokenizer

text_of = attrgetter("text")

HIDING = "fill-mask"
"""The task of heads that are asked for hidden tokens."""


class Text(ZooData):
    """Texts as rows of equal length, for causal and masked language models.

    An end-of-text token stands before, between and after documents. They are joined and cut into rows, or
    packed: then a row holds several that never see each other, and only those longer than a row are cut. A
    document is wholly on one side of the split: which one is decided by its content.

    Args:
        source: A txt(.gz), jsonl(.gz) or csv file, a folder of such, or a data set's
            `owner/name[@revision]`; each may be followed by `:split`.
        text: Where a row's text stands, in jsonl, csv and on the Hub.
        validation: A source for validation, or a split of `source`; by default some of it is held out.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        sequence_length: Tokens of a row.
        mask_fraction: Share of tokens that a masked language model is asked for.
        whole_words: Whether it is asked for all tokens of a word or for none.
        packing: Packs documents into rows, in place of joining all of them.
        batch_size: Rows of a batch.
        seed: Of the order in which rows are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
        first_rows: Documents that are read of each source; those of the Hub then come as a stream, of which
            nothing else is downloaded. None: all.
    """

    tasks = frozenset({"text-generation", HIDING})
    measure: Measure | None = Measure(
        name="bits_per_byte", subject="to tell a byte it never saw", unit="bits (fewer is better)", form=".3f"
    )

    def __init__(
        self,
        source: str,
        text: str = "text",
        validation: str | None = None,
        validation_fraction: float = 0.05,
        tokenizer: TokenizerKind = "bpe",
        vocab_size: int = 8192,
        sequence_length: int = 256,
        mask_fraction: float = 0.15,
        whole_words: bool = False,
        packing: bool = False,
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
        first_rows: int | None = None,
    ) -> None:
        super().__init__(
            validation_fraction, tokenizer, vocab_size, batch_size, seed, num_workers, on_bad_row
        )
        require_least("sequence_length", sequence_length, 2)
        require_share("mask_fraction", mask_fraction)
        if first_rows is not None:
            require_least("first_rows", first_rows, 1)
        self.first_rows = first_rows
        self.source, self.text, self.validation = source, text, validation
        self.sequence_length, self.packing = sequence_length, packing
        self.mask_fraction, self.whole_words = mask_fraction, whole_words
        self.training_rows: Rows | Pieces | None = None
        self.validation_rows: Rows | Pieces | None = None
        self._parts: tuple[Sequence[Document], Sequence[Document]] | None = None
        self._tokenizer: Tokenizer | None = None

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        return cls(source=write_rows(folder), vocab_size=300, sequence_length=16, batch_size=4)

    def documents(self) -> tuple[Sequence[Document], Sequence[Document]]:
        """Documents to train on and documents held out, read once."""
        if self._parts is None:
            source, validation = halves(self.source, self.validation)
            documents = self._read(source)
            if validation is not None:
                self._parts = documents, self._read(validation)
                warn_of_leaks(*self._parts, text_of)
            else:
                self._parts = split(documents, self.validation_fraction)
        return self._parts

    def _read(self, source: str) -> Sequence[Document]:
        return read(source, self.text, self.bad_rows, self.first_rows)

    def setup(self, stage: str) -> None:
        """Makes the rows, and gives the model a tokenizer if it has none."""
        if self.model:
            self.require_fit(self.model)
        training, held_out = self.documents()
        tokenizer = self.shared_tokenizer(lambda: Chosen(training, range(len(training)), text_of))
        if tokenizer is self._tokenizer:
            return
        end = tokenizer.special_id("eos_token")
        end = tokenizer.special_id("sep_token") if end is None else end
        if end is None:
            raise DataError("the model's tokenizer has no `eos_token` to stand between documents")
        self._tokenizer = tokenizer
        sizes = np.array(tokenizer.num_bytes(), dtype=np.int32)
        kind = Pieces if self.packing else Rows
        self.training_rows, self.validation_rows = (
            kind(token_file(part, tokenizer, end), sizes, self.room(tokenizer), end)
            for part in (training, held_out)
        )

    def room(self, tokenizer: Tokenizer) -> int:
        """Tokens of text in a row."""
        return self.sequence_length

    def require_fit(self, model: ZooModule) -> None:
        """Refuses a model that cannot read these rows.

        Raises:
            SpecError: They are for another head, or too long, or of too many ids.
        """
        super().require_fit(model)
        self.require_length(model, "sequence_length", self.sequence_length)

    def train_dataloader(self) -> Loader:
        """Rows in random order.

        Raises:
            DataError: There are fewer than a batch takes.
        """
        rows = self.training_rows
        assert rows is not None
        if isinstance(rows, Rows):
            return self.loader(rows, self._collate(None), is_training=True)
        lengths, row_tokens = rows.lengths, self.sequence_length
        return self.loader(
            rows, self._packing(rows, None), is_training=True, lengths=lengths, row_tokens=row_tokens
        )

    def val_dataloader(self) -> HeldOut:
        """Held-out rows in order."""
        rows = self.validation_rows
        assert rows is not None
        collate = self._collate(self.seed) if isinstance(rows, Rows) else self._packing(rows, self.seed)
        return self.loader(rows, collate, is_training=False)

    def _packing(self, pieces: Pieces, seed: int | None) -> Packing:
        return Packing(self.sequence_length, pieces.end, self._masking(seed))

    def _collate(self, seed: int | None) -> Collate | None:
        """What makes a batch of rows; with a seed, the same one each time."""
        return self._masking(seed)

    def _masking(self, seed: int | None) -> Masking | None:
        head = self.model and self.model.head_specs[self.model.head_name(self.head)]
        if head is None or head.task != HIDING:
            return None
        assert self._tokenizer is not None
        return Masking(self._tokenizer, self.mask_fraction, seed, whole_words=self.whole_words)

    def predict_dataloader(self) -> "DataLoader[Batch]":
        """The first words of each held-out document, as `prompts`; one is hidden for a head that tells it."""
        starts = [document.text.split(" ")[:16] for document in self.documents()[1]]
        if (masking := self._masking(None)) is not None:
            for words in starts:
                words[len(words) // 2] = masking.mask_token
        return self.prompts([" ".join(words) for words in starts])

    def baselines(self) -> dict[str, float]:
        """Bits per byte of the held-out text by a unigram over the same tokens, and by gzip -9."""
        assert self.training_rows is not None
        assert self.validation_rows is not None
        text = "".join(document.text for document in self.documents()[1]).encode()
        size = len(self.training_rows.sizes)
        counts = np.bincount(self.training_rows.tokens, minlength=size) + 1.0
        nats = -np.log(counts / counts.sum())[self.validation_rows.tokens[1:]].sum()
        return {
            "unigram": float(nats) / math.log(2) / len(text),
            "gzip -9": 8 * len(gzip.compress(text, 9)) / len(text),
        }
