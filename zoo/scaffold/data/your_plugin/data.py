"""YourPlugin: data for language models, made of sums: `12 + 30 = 42`.

It works as it stands. To make it yours: read your own documents in `documents`. What the zoo's data give
comes with it: a tokenizer, rows, an order that goes on exactly where a run ended, shares for processes.
"""

import random
from pathlib import Path
from typing import Self

from zoo.data.base import TokenizerKind
from zoo.data.reading import Document
from zoo.data.splitting import split
from zoo.data.text import Text


class YourPlugin(Text):
    """Sums as texts, some of them held out.

    Args:
        num_documents: Texts, each of twenty sums.
        largest: Of the numbers that are added.
        validation_fraction: Share of the texts that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        sequence_length: Tokens of a row.
        batch_size: Rows of a batch.
        seed: Of the order in which rows are drawn.
        num_workers: Processes that make batches.
    """

    def __init__(
        self,
        num_documents: int = 500,
        largest: int = 99,
        validation_fraction: float = 0.1,
        tokenizer: TokenizerKind = "bpe",
        vocab_size: int = 320,
        sequence_length: int = 64,
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            source="sums",
            validation_fraction=validation_fraction,
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            sequence_length=sequence_length,
            batch_size=batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        self.num_documents, self.largest = num_documents, largest

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for the conformance kit; what it needs of files, it writes to the folder."""
        return cls(num_documents=40, sequence_length=16, batch_size=4)

    def documents(self) -> tuple[list[Document], list[Document]]:
        """Texts to train on and texts held out; the same ones every time."""
        if self._parts is None:
            draw = random.Random(0)
            made = [Document(self._sums(draw), f"text {number}") for number in range(self.num_documents)]
            self._parts = split(made, self.validation_fraction)
        return self._parts

    def _sums(self, draw: random.Random) -> str:
        pairs = [(draw.randint(0, self.largest), draw.randint(0, self.largest)) for _ in range(20)]
        return "\n".join(f"{one} + {two} = {one + two}" for one, two in pairs)
