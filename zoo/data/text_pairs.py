"""Pairs of texts: one that is read, one that is written about it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from torch.utils.data import DataLoader

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind, ZooData, require_least
from zoo.data.loading import HeldOut, Loader
from zoo.data.measures import Measure, Question
from zoo.data.packing import in_rows, laid_out
from zoo.data.reading import read_rows
from zoo.data.samples import write_rows
from zoo.data.splits import halves
from zoo.data.splitting import apart
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule
from zoo.tokenizer import Tokenizer


def characters_wrong(answers: Sequence[str], right: Sequence[str]) -> float:
    """The characters to be changed, added or taken away, as a share of those that are right."""
    from torchmetrics.functional.text import char_error_rate

    return float(char_error_rate(list(answers), list(right)))


class Pair(NamedTuple):
    """A text that is read and the one to be written."""

    input: str
    target: str


class TextPairs(ZooData):
    """Pairs of texts, for encoder-decoders.

    Args:
        source: A jsonl(.gz) or csv file, a folder of such, or a data set's `owner/name[#configuration]`;
            either may be followed by `:split`.
        input: Where the text that is read stands in a row.
        target: Where the text that is to be written stands.
        validation: A source for validation, or the name of a split of `source`, which for a folder begins
            its files' names; by default some of `source` is held out.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of either text; what is longer is cut.
        batch_size: Pairs of a batch; of packed ones, rows.
        batch_tokens: Tokens of either side of a batch, padding counted, in place of batch_size.
        row_tokens: Packs several pairs into rows of so many tokens on either side.
        seed: Of the order in which pairs are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    tasks = frozenset({"text2text-generation"})
    measure = Measure(
        name="characters_wrong",
        subject="texts it never saw",
        unit="characters wrong (fewer is better)",
        score=characters_wrong,
    )

    def __init__(
        self,
        source: str,
        input: str = "input",
        target: str = "target",
        validation: str | None = None,
        validation_fraction: float = 0.05,
        tokenizer: TokenizerKind = "unigram",
        vocab_size: int = 8192,
        max_length: int = 128,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        row_tokens: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(
            validation_fraction, tokenizer, vocab_size, batch_size, seed, num_workers, on_bad_row
        )
        require_least("max_length", max_length, 2)
        require_least("batch_tokens", batch_tokens or max_length, max_length)
        require_least("row_tokens", row_tokens or max_length, max_length)
        self.batch_tokens, self.row_tokens = batch_tokens, row_tokens
        self.source, self.input, self.target = source, input, target
        self.validation, self.max_length = validation, max_length
        self._parts: tuple[list[Pair], list[Pair]] | None = None
        self._tokenizer: Tokenizer | None = None
        self._eos = 0

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        source = write_rows(folder)
        return cls(source=source, tokenizer="bpe", vocab_size=300, max_length=24, batch_size=4)

    def pairs(self) -> tuple[list[Pair], list[Pair]]:
        """Pairs to train on and pairs held out, read once."""
        if self._parts is None:
            self._parts = self.read()
        for part, name in zip(self._parts, ("train on", "hold out"), strict=True):
            if not part:
                raise DataError(f"there is no pair to {name}", hint="give more, or another split")
        return self._parts

    def read(self) -> tuple[list[Pair], list[Pair]]:
        """Reads the source, and holds some of it out where no other is named."""
        training, validation = halves(self.source, self.validation)
        if validation is not None:
            return self._read(training), self._read(validation)
        return apart(self._read(training), lambda pair: pair.input, self.validation_fraction)

    def _read(self, source: str) -> list[Pair]:
        rows = read_rows(source, [self.input, self.target], self.bad_rows)
        return [Pair(row.values[self.input], row.values[self.target]) for row in rows]

    def setup(self, stage: str) -> None:
        """Reads the pairs, and gives the model a tokenizer if it has none."""
        if self.model:
            self.require_fit(self.model)
        training, _ = self.pairs()
        tokenizer = self.shared_tokenizer(lambda: [text for pair in training for text in pair])
        eos = tokenizer.special_id("eos_token")
        if eos is None:
            raise DataError("the model's tokenizer has no `eos_token` to end what is written")
        self._tokenizer, self._eos = tokenizer, eos

    def require_fit(self, model: ZooModule) -> None:
        """Refuses a model that cannot read these pairs.

        Raises:
            SpecError: They are for another head, or too long, or of too many ids.
        """
        super().require_fit(model)
        self.require_length(model, "max_length", self.max_length)

    def train_dataloader(self) -> Loader:
        """Pairs in random order, those of a batch of like length."""
        training, _ = self.pairs()
        if self.row_tokens is not None:
            return self._packed_loader(training, self.row_tokens)
        lengths = [len(pair.target) for pair in training]
        if self.batch_tokens is not None:
            lengths = [max(map(len, sides)) for sides in self._ids(training)]
        return self.loader(training, self.collate, is_training=True, lengths=lengths)

    def _packed_loader(self, pairs: Sequence[Pair], row_tokens: int) -> Loader:
        """Batches of rows; the pairs' lengths are asked for, so their ids are kept."""
        ids = self._ids(pairs)
        lengths = [max(map(len, sides)) for sides in ids]
        return self.loader(ids, self._packed, is_training=True, lengths=lengths, row_tokens=row_tokens)

    def _ids(self, pairs: Sequence[Pair]) -> list[tuple[list[int], list[int]]]:
        """Ids of what is read, and of what is to be written, which end in the end-of-text token."""
        assert self._tokenizer is not None
        read = self._tokenizer.cut([pair.input for pair in pairs], self.max_length)
        written = self._tokenizer.encode_batch([pair.target for pair in pairs], special=False)
        ended = ([*ids[: self.max_length - 1], self._eos] for ids in written)
        return list(zip(read, ended, strict=True))

    def val_dataloader(self) -> HeldOut:
        """Held-out pairs in order."""
        return self.loader(self.pairs()[1], self.collate, is_training=False)

    def predict_dataloader(self) -> "DataLoader[Batch]":
        """The held-out texts that are read, as `prompts`."""
        return self.prompts([pair.input for pair in self.pairs()[1]])

    def questions(self) -> list[Question]:
        """The held-out texts that are read, and what is to be written about them."""
        return [Question(pair.input, pair.target) for pair in self.pairs()[1]]

    def baselines(self) -> dict[str, float]:
        """What is wrong where the text that is read is written as it is."""
        texts, right = zip(*self.questions(), strict=True)
        return {"copying what it reads": characters_wrong(texts, right)}

    def collate(self, pairs: Sequence[Pair]) -> Batch:
        """What is read as padded ids, what is to be written as labels that end in the end-of-text token."""
        assert self._tokenizer is not None
        if self.row_tokens is not None:
            return self._packed(self._ids(pairs))
        batch: Batch = dict(self._tokenizer.batch([pair.input for pair in pairs], max_length=self.max_length))
        alone = [[number] for number in range(len(pairs))]
        batch["labels"], _ = laid_out([written for _, written in self._ids(pairs)], alone, IGNORED)
        return batch

    def _packed(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Batch:
        assert self._tokenizer is not None
        assert self.row_tokens is not None
        sizes = [tuple(map(len, sides)) for sides in pairs]
        rows = in_rows(sizes, [self.row_tokens, self.row_tokens])
        read, written = zip(*pairs, strict=True)
        padding = self._tokenizer.special_id("pad_token") or 0
        batch = dict(zip(("input_ids", "attention_mask"), laid_out(read, rows, padding), strict=True))
        labels = zip(("labels", "decoder_attention_mask"), laid_out(written, rows, IGNORED), strict=True)
        return {**batch, **dict(labels)}
