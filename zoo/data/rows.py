"""Documents as tokens on disk, and what batches are made of: rows of a stream, or pieces of documents."""

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from zoo.data.caching import cached, content_hash
from zoo.data.reading import Document
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.tokenizer import Tokenizer

Array = np.ndarray[Any, Any]

CHARACTERS_AT_ONCE = 2**22
"""Of the texts that are tokenised together."""


class Rows(Dataset[Batch]):
    """A stream of tokens as rows that overlap by one, so that each token but the first is predicted once."""

    def __init__(self, path: Path, sizes: Array, length: int, end: int) -> None:
        self.tokens = np.load(path, mmap_mode="r")
        self.sizes, self.length, self.end = sizes, length, end
        if len(self.tokens) < 2:
            raise DataError(f"{len(self.tokens)} tokens are too few to learn from")

    def __len__(self) -> int:
        return math.ceil((len(self.tokens) - 1) / (self.length - 1))

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)  # or a loop over all rows would not end
        start = index * (self.length - 1)
        found = self.tokens[start : start + self.length].astype(np.int64)
        missing = self.length - len(found)
        labels = np.concatenate((found, np.full(missing, IGNORED)))
        return {
            "input_ids": torch.from_numpy(np.concatenate((found, np.full(missing, self.end)))),
            "labels": torch.from_numpy(labels),
            "num_bytes": self._num_bytes(found),
        }

    def _num_bytes(self, tokens: Array) -> Tensor:
        return torch.tensor(int(self.sizes[tokens[1:]].sum()))


class Pieces(Dataset[Batch]):
    """Documents, the end-of-text token on either side; long ones in pieces that overlap by one token."""

    def __init__(self, path: Path, sizes: Array, length: int, end: int) -> None:
        self.tokens = np.load(path, mmap_mode="r")
        self.sizes, self.end = sizes, end
        ends = np.flatnonzero(self.tokens == end)
        # A document of n tokens after its first end, the last of them an end, is cut after each length - 1.
        spans = np.diff(ends)
        counts = -(-spans // (length - 1))
        number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        self.starts = np.repeat(ends[:-1], counts) + number * (length - 1)
        self.stops = np.minimum(self.starts + length, np.repeat(ends[1:], counts) + 1)
        if not len(self.starts):
            raise DataError(f"{len(self.tokens)} tokens are too few to learn from")

    @property
    def lengths(self) -> list[int]:
        """Tokens of each piece."""
        lengths: list[int] = (self.stops - self.starts).tolist()
        return lengths

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Batch:
        found = self.tokens[self.starts[index] : self.stops[index]].astype(np.int64)
        num_bytes = torch.tensor(int(self.sizes[found[1:]].sum()))
        return {"input_ids": torch.from_numpy(found), "num_bytes": num_bytes}


def token_file(documents: Sequence[Document], tokenizer: Tokenizer, end: int) -> Path:
    """The documents' tokens as one array on disk, with `end` before, between and after documents."""

    def make(path: Path) -> None:
        with path.with_suffix(".raw").open("w+b") as raw:
            raw.write(np.int32(end).tobytes())
            for texts in _pieces(documents):
                rows = tokenizer.encode_batch(texts, special=False)  # in parallel
                raw.write(np.fromiter((token for row in rows for token in (*row, end)), np.int32).tobytes())
            size, _ = raw.tell() // 4, raw.seek(0)
            with path.open("wb") as file:
                header = {"descr": "<i4", "fortran_order": False, "shape": (size,)}
                np.lib.format.write_array_header_1_0(file, header)
                shutil.copyfileobj(raw, file)

    texts = (document.text for document in documents)
    name = content_hash(texts, tokenizer.backend.to_str(), str(end), "ends on both sides")
    return cached(f"tokens-{name}.npy", make)


def _pieces(documents: Sequence[Document]) -> Iterator[list[str]]:
    """Texts of about so many characters together, with a bar where somebody watches."""
    console = Console(stderr=True)
    texts, size = list[str](), 0
    for document in track(
        documents, "tokenising", console=console, transient=True, disable=not console.is_terminal
    ):
        texts.append(document.text)
        size += len(document.text)
        if size > CHARACTERS_AT_ONCE:
            yield texts
            texts, size = [], 0
    yield texts
