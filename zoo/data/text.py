"""Language modelling on documents: tokenised once, cut into rows."""

import gzip
import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from zoo.data.reading import Document, read
from zoo.errors import DataError, SpecError
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule
from zoo.specs import BackboneSpec
from zoo.tokenizer import Tokenizer, train_byte_level_bpe


class Text(L.LightningDataModule):
    """Texts as rows of equal length, for causal language models.

    Documents are joined, an end-of-text token before, between and after them, and cut into rows. A document
    is wholly on one side of the split: which one is decided by its content.

    Args:
        source: A txt, jsonl(.gz) or csv file, a folder of such, or a data set's `owner/name[:split]`.
        text: Where a row's text stands, in jsonl, csv and on the Hub.
        validation: A source for validation; by default some of `source` is held out.
        validation_fraction: Share of `source` that is held out.
        vocab_size: Of the byte-level BPE that is trained where the model brings no tokenizer.
        sequence_length: Tokens of a row.
        batch_size: Rows of a batch.
        seed: Of the order in which rows are drawn.
        num_workers: Processes that make batches.
    """

    def __init__(
        self,
        source: str,
        text: str = "text",
        validation: str | None = None,
        validation_fraction: float = 0.05,
        vocab_size: int = 8192,
        sequence_length: int = 256,
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < validation_fraction < 1:
            raise SpecError(
                f"`validation_fraction` must lie between 0 and 1, got {validation_fraction}",
                at="validation_fraction",
            )
        for name, value, least in (
            ("sequence_length", sequence_length, 2),
            ("batch_size", batch_size, 1),
            ("vocab_size", vocab_size, 257),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise SpecError(f"`{name}` must be at least {least}, got {value}", at=name)
        self.source, self.text, self.validation = source, text, validation
        self.validation_fraction, self.vocab_size = validation_fraction, vocab_size
        self.sequence_length, self.batch_size = sequence_length, batch_size
        self.seed, self.num_workers = seed, num_workers
        self.training_rows: Rows | None = None
        self.validation_rows: Rows | None = None
        self._parts: tuple[list[Document], list[Document]] | None = None

    def documents(self) -> tuple[list[Document], list[Document]]:
        """Documents to train on and documents held out, read once."""
        if self._parts is None:
            if self.validation is not None:
                self._parts = read(self.source, self.text), read(self.validation, self.text)
            else:
                self._parts = split(read(self.source, self.text), self.validation_fraction)
        return self._parts

    def prepare_data(self) -> None:
        """Trains the tokenizer, where the model brings none, and tokenises; both are cached by content."""
        self.setup("fit")

    def setup(self, stage: str) -> None:
        """Makes the rows, and gives the model a tokenizer if it has none."""
        if self.training_rows is not None:
            return
        model = self.trainer.lightning_module if self.trainer else None
        if isinstance(model, ZooModule):
            self.require_fit(model.spec, brings_tokenizer=model.brings_tokenizer)
        training, held_out = self.documents()
        tokenizer = model.own_tokenizer() if isinstance(model, ZooModule) else None
        tokenizer = tokenizer or _trained_tokenizer(training, self.vocab_size)
        if isinstance(model, ZooModule):
            model.adopt_tokenizer(tokenizer)
        end = tokenizer.special_id("eos_token")
        if end is None:
            raise DataError("the model's tokenizer has no `eos_token` to stand between documents")
        sizes = np.array(tokenizer.num_bytes(), dtype=np.int32)
        self.training_rows = Rows(_token_file(training, tokenizer, end), sizes, self.sequence_length, end)
        self.validation_rows = Rows(_token_file(held_out, tokenizer, end), sizes, self.sequence_length, end)

    def require_fit(self, spec: BackboneSpec, *, brings_tokenizer: bool) -> None:
        """Refuses a backbone that cannot read these rows.

        Raises:
            SpecError: The rows are too long for it, or the tokenizer to be trained has too many ids.
        """
        limit = spec.max_position_embeddings
        if self.sequence_length > limit:
            raise SpecError(
                f"rows of {self.sequence_length} tokens are too long for a model that sees {limit}",
                at="data.sequence_length",
                hint=f"set it to at most {limit}, or the backbone's max_position_embeddings",
            )
        if not brings_tokenizer and self.vocab_size > spec.vocab_size:
            raise SpecError(
                f"a tokenizer of {self.vocab_size} ids is too large for a backbone of {spec.vocab_size}",
                at="data.vocab_size",
                hint=f"set it to at most {spec.vocab_size}, or the backbone's vocab_size",
            )

    def train_dataloader(self) -> "DataLoader[Batch]":
        """Rows in random order.

        Raises:
            DataError: There are fewer than a batch takes.
        """
        assert self.training_rows is not None
        if len(self.training_rows) < self.batch_size:
            raise DataError(
                f"the text to train on makes {len(self.training_rows)} rows of {self.sequence_length} "
                f"tokens, a batch takes {self.batch_size}",
                at="data.batch_size",
                hint="give more text, or a smaller batch_size or sequence_length",
            )
        order = RandomSampler(self.training_rows, generator=torch.Generator().manual_seed(self.seed))
        return self._loader(self.training_rows, order)

    def val_dataloader(self) -> "DataLoader[Batch]":
        """Held-out rows in order."""
        assert self.validation_rows is not None
        return self._loader(self.validation_rows, None)

    def test_dataloader(self) -> "DataLoader[Batch]":
        """Held-out rows in order."""
        return self.val_dataloader()

    def predict_dataloader(self) -> "DataLoader[Batch]":
        """The first words of each held-out document, as `prompts`."""
        openings = [" ".join(document.text.split(" ")[:16]) for document in self.documents()[1]]
        return DataLoader(openings, batch_size=self.batch_size, collate_fn=lambda rows: {"prompts": rows})  # type: ignore[arg-type]

    def _loader(self, rows: "Rows", order: RandomSampler | None) -> "DataLoader[Batch]":
        return DataLoader(
            rows, self.batch_size, sampler=order, num_workers=self.num_workers, drop_last=order is not None
        )

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


def split(documents: list[Document], fraction: float) -> tuple[list[Document], list[Document]]:
    """Holds out about this share of the documents, by their content; of a single one, its end.

    Raises:
        DataError: One side would be empty.
    """
    if len(documents) == 1:
        text, place = documents[0].text, documents[0].place
        cut = text.rfind("\n", 0, int(len(text) * (1 - fraction))) + 1 or int(len(text) * (1 - fraction))
        parts = [Document(text[:cut], place)], [Document(text[cut:], place)]
    else:
        parts = [], []
        shares = [_share(document) for document in documents]
        lowest, highest = min(shares), max(shares)
        for document, share in zip(documents, shares, strict=True):
            parts[share == lowest or fraction > share != highest].append(document)  # some on either side
    if not all(any(document.text for document in part) for part in parts):
        raise DataError(
            f"the text cannot be split with {fraction} held out; "
            f"different documents: {len({document.text for document in documents})}",
            hint="give more text, another validation_fraction, or a source for validation",
        )
    return parts


def _share(document: Document) -> float:
    """The share of all texts, from 0 to 1, that come before this one in an order by content."""
    return int.from_bytes(hashlib.sha256(document.text.encode()).digest()[:8], "big") / 2**64


def cache_folder() -> Path:
    """Where what was made from data is kept: $ZOO_CACHE, or lightning-zoo in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("ZOO_CACHE") or f"{home}/lightning-zoo").expanduser()


def _content_hash(documents: Sequence[Document], *more: str) -> str:
    digest = hashlib.sha256("\0".join(more).encode())
    for document in documents:
        digest.update(hashlib.sha256(document.text.encode()).digest())
    return digest.hexdigest()[:32]


def _trained_tokenizer(documents: Sequence[Document], vocab_size: int) -> Tokenizer:
    def make(folder: Path) -> None:
        folder.mkdir()
        train_byte_level_bpe([document.text for document in documents], vocab_size).save(folder)

    folder = _cached(f"bpe-{_content_hash(documents, str(vocab_size))}", make)
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer is not None, f"{folder} is a cached tokenizer without its files"
    return tokenizer


def _token_file(documents: Sequence[Document], tokenizer: Tokenizer, end: int) -> Path:
    """The documents' tokens as one array on disk, with `end` before, between and after documents."""

    def make(path: Path) -> None:
        rows = tokenizer.encode_batch([document.text for document in documents], special=False)
        np.save(path, np.fromiter((token for row in ([], *rows) for token in (*row, end)), dtype=np.int32))

    name = _content_hash(documents, tokenizer.backend.to_str(), str(end), "ends on both sides")
    return _cached(f"tokens-{name}.npy", make)


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """A file or folder of the cache, made aside and moved where it is missing: the cache holds no halves."""
    path = cache_folder() / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as aside:
        make(Path(aside, name))
        try:
            os.replace(Path(aside, name), path)
        except OSError:  # another process was faster
            if not path.exists():
                raise
    return path
