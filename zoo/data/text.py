"""Language modelling on documents: tokenised once, cut into rows."""

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.data.base import TokenizerKind, ZooData, require_least
from zoo.data.caching import cached, content_hash
from zoo.data.loading import HeldOut, Loader
from zoo.data.masking import Masking
from zoo.data.measures import Measure
from zoo.data.reading import Document, read
from zoo.data.splitting import split
from zoo.errors import DataError, SpecError
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule
from zoo.tokenizer import Tokenizer

HIDING = "fill-mask"
"""The task of heads that are asked for hidden tokens."""


class Text(ZooData):
    """Texts as rows of equal length, for causal and masked language models.

    Documents are joined, an end-of-text token before, between and after them, and cut into rows. A document
    is wholly on one side of the split: which one is decided by its content.

    Args:
        source: A txt, jsonl(.gz) or csv file, a folder of such, or a data set's `owner/name[:split]`.
        text: Where a row's text stands, in jsonl, csv and on the Hub.
        validation: A source for validation; by default some of `source` is held out.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        sequence_length: Tokens of a row.
        mask_fraction: Share of tokens that a masked language model is asked for.
        batch_size: Rows of a batch.
        seed: Of the order in which rows are drawn.
        num_workers: Processes that make batches.
    """

    tasks = frozenset({"text-generation", HIDING})
    measure = Measure(
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
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(validation_fraction, tokenizer, vocab_size, batch_size, seed, num_workers)
        require_least("sequence_length", sequence_length, 2)
        if not 0 < mask_fraction < 1:
            raise SpecError(
                f"`mask_fraction` must lie between 0 and 1, got {mask_fraction}", at="mask_fraction"
            )
        self.source, self.text, self.validation = source, text, validation
        self.sequence_length, self.mask_fraction = sequence_length, mask_fraction
        self.training_rows: Rows | None = None
        self.validation_rows: Rows | None = None
        self._parts: tuple[list[Document], list[Document]] | None = None
        self._tokenizer: Tokenizer | None = None

    def documents(self) -> tuple[list[Document], list[Document]]:
        """Documents to train on and documents held out, read once."""
        if self._parts is None:
            if self.validation is not None:
                self._parts = read(self.source, self.text), read(self.validation, self.text)
            else:
                self._parts = split(read(self.source, self.text), self.validation_fraction)
        return self._parts

    def setup(self, stage: str) -> None:
        """Makes the rows, and gives the model a tokenizer if it has none."""
        if self.model:
            self.require_fit(self.model)
        training, held_out = self.documents()
        tokenizer = self.shared_tokenizer(lambda: [document.text for document in training])
        if tokenizer is self._tokenizer:
            return
        end = tokenizer.special_id("eos_token")
        end = tokenizer.special_id("sep_token") if end is None else end
        if end is None:
            raise DataError("the model's tokenizer has no `eos_token` to stand between documents")
        self._tokenizer = tokenizer
        sizes = np.array(tokenizer.num_bytes(), dtype=np.int32)
        self.training_rows = Rows(_token_file(training, tokenizer, end), sizes, self.sequence_length, end)
        self.validation_rows = Rows(_token_file(held_out, tokenizer, end), sizes, self.sequence_length, end)

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
        assert self.training_rows is not None
        return self.loader(self.training_rows, self._masking(None), is_training=True)

    def val_dataloader(self) -> HeldOut:
        """Held-out rows in order."""
        assert self.validation_rows is not None
        return self.loader(self.validation_rows, self._masking(self.seed), is_training=False)

    def _masking(self, seed: int | None) -> Masking | None:
        head = self.model and self.model.head_specs[self.model.head_name(self.head)]
        if head is None or head.task != HIDING:
            return None
        assert self._tokenizer is not None
        return Masking(self._tokenizer, self.mask_fraction, seed)

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


class Rows(Dataset[Batch]):
    """A stream of tokens as rows that overlap by one, so that each token but the first is predicted once."""

    def __init__(self, path: Path, sizes: "np.ndarray[Any, Any]", length: int, padding: int) -> None:
        self.tokens = np.load(path, mmap_mode="r")
        self.sizes, self.length, self.padding = sizes, length, padding
        if len(self.tokens) < 2:
            raise DataError(f"{len(self.tokens)} tokens are too few to learn from")

    def __len__(self) -> int:
        return math.ceil((len(self.tokens) - 1) / (self.length - 1))

    def __getitem__(self, index: int) -> Batch:
        start = index * (self.length - 1)
        found = self.tokens[start : start + self.length].astype(np.int64)
        missing = self.length - len(found)
        labels = np.concatenate((found, np.full(missing, IGNORED)))
        return {
            "input_ids": torch.from_numpy(np.concatenate((found, np.full(missing, self.padding)))),
            "labels": torch.from_numpy(labels),
            "num_bytes": self._num_bytes(found),
        }

    def _num_bytes(self, tokens: "np.ndarray[Any, Any]") -> Tensor:
        return torch.tensor(int(self.sizes[tokens[1:]].sum()))


def _token_file(documents: Sequence[Document], tokenizer: Tokenizer, end: int) -> Path:
    """The documents' tokens as one array on disk, with `end` before, between and after documents."""
    texts = [document.text for document in documents]

    def make(path: Path) -> None:
        rows = tokenizer.encode_batch(texts, special=False)
        np.save(path, np.fromiter((token for row in ([], *rows) for token in (*row, end)), dtype=np.int32))

    name = content_hash(texts, tokenizer.backend.to_str(), str(end), "ends on both sides")
    return cached(f"tokens-{name}.npy", make)
