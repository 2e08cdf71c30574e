"""Texts that an encoder-decoder mends."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from torch.utils.data import DataLoader

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import LEAST_IDS, TokenizerKind, require_least, require_share, trained_tokenizer
from zoo.data.corruption import (
    Corrupt,
    Corruption,
    Holes,
    Infilling,
    Spans,
    ends_sentence,
    sentinel,
    sentinels_of,
)
from zoo.data.loading import Collate
from zoo.data.masking import mask_id_of
from zoo.data.samples import write_rows
from zoo.data.text import Text
from zoo.errors import DataError, SpecError
from zoo.heads.base import Batch
from zoo.tokenizer import Tokenizer

MASK = "<mask>"


class Denoising(Text):
    """Rows of text with holes, for encoder-decoders: T5's span corruption, or BART's infilling.

    A tokenizer that is trained here gets the special tokens that stand in holes.

    Args:
        source: A txt(.gz), jsonl(.gz) or csv file, a folder of such, or a data set's `owner/name`; each may
            be followed by `:split`.
        text: Where a row's text stands, in jsonl, csv and on the Hub.
        validation: A source for validation, or a split of `source`; by default some of it is held out.
        validation_fraction: Share of `source` that is held out.
        corruption: `spans` become a sentinel each, and are what is written; with `infilling` they become one
            mask each, and the whole text is written.
        hidden_fraction: Share of tokens that is hidden; by default 0.15 of spans and 0.3 of infilling.
        mean_span_tokens: Tokens of a hidden span, on average.
        permute_sentences: Whether sentences stand in another order, too; of infilling.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        sequence_length: Tokens of a row before it is corrupted, special tokens included.
        batch_size: Rows of a batch.
        seed: Of the order in which rows are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
        first_rows: Documents that are read of each source; those of the Hub then come as a stream, of which
            nothing else is downloaded. None: all.
    """

    tasks = frozenset({"text2text-generation"})
    measure = None

    def __init__(
        self,
        source: str,
        text: str = "text",
        validation: str | None = None,
        validation_fraction: float = 0.05,
        corruption: Literal["spans", "infilling"] = "spans",
        hidden_fraction: float | None = None,
        mean_span_tokens: float = 3.0,
        permute_sentences: bool = False,
        tokenizer: TokenizerKind = "unigram",
        vocab_size: int = 8192,
        sequence_length: int = 256,
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
        first_rows: int | None = None,
    ) -> None:
        super().__init__(
            source=source,
            text=text,
            validation=validation,
            validation_fraction=validation_fraction,
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            sequence_length=sequence_length,
            batch_size=batch_size,
            seed=seed,
            num_workers=num_workers,
            on_bad_row=on_bad_row,
            first_rows=first_rows,
        )
        require_least("sequence_length", sequence_length, 8)
        if mean_span_tokens < 1:
            raise SpecError(
                f"`mean_span_tokens` must be at least 1, got {mean_span_tokens}", at="mean_span_tokens"
            )
        usual = 0.15 if corruption == "spans" else 0.3
        self.holes = Holes(usual if hidden_fraction is None else hidden_fraction, mean_span_tokens)
        require_share("hidden_fraction", self.holes.fraction)
        if permute_sentences and corruption == "spans":
            raise SpecError(
                "`permute_sentences` is of infilling, got corruption: spans", at="permute_sentences"
            )
        self.corruption, self.permute_sentences = corruption, permute_sentences
        require_least("vocab_size", vocab_size, LEAST_IDS[tokenizer] + len(self._tokens))

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        source = write_rows(folder)
        return cls(source=source, tokenizer="bpe", vocab_size=300, sequence_length=16, batch_size=4)

    @property
    def _tokens(self) -> list[str]:
        """The special tokens that stand in holes."""
        if self.corruption == "infilling":
            return [MASK]
        return [sentinel(number) for number in range(self.holes.num_spans(self.sequence_length))]

    def train_tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        """One of at most `vocab_size` ids, the special tokens that stand in holes included."""
        tokens = self._tokens
        trained = trained_tokenizer(self.tokenizer_kind, texts, self.vocab_size - len(tokens))
        if self.corruption == "spans":
            return trained.with_special_tokens({}, tokens)
        has_mask = trained.special_id("mask_token") is not None
        return trained if has_mask else trained.with_special_tokens({"mask_token": MASK})

    def room(self, tokenizer: Tokenizer) -> int:
        """Tokens of text in a row: the special tokens around it are not counted."""
        before, after = _around(tokenizer)
        return self.sequence_length - len(before) - len(after)

    def _collate(self, seed: int | None) -> Collate:
        tokenizer = self._tokenizer
        assert tokenizer is not None
        return Corruption(
            self._corrupt(tokenizer), *_around(tokenizer), tokenizer.special_id("pad_token") or 0, seed
        )

    def _corrupt(self, tokenizer: Tokenizer) -> Corrupt:
        if self.corruption == "spans":
            return Spans(self.holes, self._sentinels(tokenizer))
        mask = mask_id_of(tokenizer, hint="set data.corruption: spans")
        return Infilling(self.holes, mask, ends_sentence(tokenizer) if self.permute_sentences else None)

    def _sentinels(self, tokenizer: Tokenizer) -> list[int]:
        found, needed = sentinels_of(tokenizer), len(self._tokens)
        if len(found) < needed:
            raise DataError(
                f"rows of {self.sequence_length} tokens have {needed} holes, "
                f"the tokenizer has {len(found)} tokens like `{sentinel(0)}` to stand in them",
                hint="take shorter rows, a larger mean_span_tokens, or set data.corruption: infilling",
            )
        return found

    def predict_dataloader(self) -> "DataLoader[Batch]":
        """The first words of each held-out document, with a hole, as `prompts`."""
        starts = [document.text.split(" ")[:16] for document in self.documents()[1]]
        for words in starts:
            words[len(words) // 2] = self._tokens[0]
        return self.prompts([" ".join(words) for words in starts])

    def baselines(self) -> dict[str, float]:
        """None."""
        return {}


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Special tokens before and after a text, as the tokenizer puts them; at least one ends it."""
    around = tokenizer.encode("")
    if around:
        return around[:-1], around[-1:]
    end = tokenizer.special_id("eos_token")
    return [], [] if end is None else [end]
