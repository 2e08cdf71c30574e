"""Pairs of texts: one that is read, one that is written about it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from torch.utils.data import DataLoader

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind, require_least
from zoo.data.examples import ExampleData
from zoo.data.loading import Loader
from zoo.data.measures import Measure, Question
from zoo.data.packing import in_rows, laid_out
from zoo.data.reading import Record, read_records, whole_text
from zoo.data.samples import write_rows
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.modules.encoder_decoder import EncoderDecoderModule


def characters_wrong(answers: Sequence[str], right: Sequence[str]) -> float:
    """The characters to be changed, added or taken away, as a share of those that are right."""
    from torchmetrics.functional.text import char_error_rate

    return float(char_error_rate(list(answers), list(right)))


class Pair(NamedTuple):
    """A text that is read and the one to be written."""

    input: str
    target: str


class TextPairs(ExampleData[Pair]):
    """Pairs of texts, for encoder-decoders.

    Args:
        source: A jsonl(.gz) or csv file, a folder of such, or a data set's `owner/name[#configuration]`;
            either may be followed by `:split`.
        input: Where the text that is read stands in a row; a list of sentences is joined.
        target: Where the text that is to be written stands; of several in a list the first is learnt.
        validation: A source for validation, or the name of a split of `source`, which for a folder begins
            its files' names; by default some of `source` is held out.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of either text; what is longer is cut.
        batch_size: Pairs of a batch; of packed ones, rows.
        batch_tokens: Tokens of either side of a batch, padding counted, in place of batch_size.
        row_tokens: Packs several pairs into rows of so many tokens on either side.
        input_language: The token of the language that is read, `en_XX`, for a model of several; by default
            the one that the tokenizer's files name.
        target_language: That of the language to be written, in which the model then writes by default.
        seed: Of the order in which pairs are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    noun = "pair"
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
        input_language: str | None = None,
        target_language: str | None = None,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(
            source,
            validation,
            validation_fraction,
            tokenizer,
            vocab_size,
            max_length,
            batch_size,
            seed,
            num_workers,
            on_bad_row,
        )
        require_least("batch_tokens", batch_tokens or max_length, max_length)
        require_least("row_tokens", row_tokens or max_length, max_length)
        self.batch_tokens, self.row_tokens = batch_tokens, row_tokens
        self.input, self.target = input, target
        self.input_language, self.target_language = input_language, target_language

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        source = write_rows(folder)
        return cls(source=source, tokenizer="bpe", vocab_size=300, max_length=24, batch_size=4)

    def read_source(self, source: str) -> list[Pair]:
        """The pairs of one source."""
        pairs = []
        for record in read_records(source, [self.input, self.target], self.bad_rows):
            with self.bad_rows.row():
                read, written = (_texts(record, column) for column in (self.input, self.target))
                if any(part.strip() for part in read):
                    pairs.append(Pair(" ".join(read), written[0]))
        return pairs

    def content(self, example: Pair) -> str:
        """What is read: no text is on both sides."""
        return example.input

    def texts(self, example: Pair) -> Pair:
        """Both."""
        return example

    def length(self, example: Pair) -> int:
        """Of what is to be written, in characters."""
        return len(example.target)

    def setup(self, stage: str) -> None:
        """Reads the pairs, gives the model a tokenizer if it has none, and tells it the languages."""
        super().setup(stage)
        self._tokenizer = self.tokenizer.in_languages(self.input_language, self.target_language)
        self.tokenizer.encode_targets([""], self.max_length)  # refuses one that cannot end texts
        if isinstance(self.model, EncoderDecoderModule):
            self.model.adopt_tokenizer(self.tokenizer)
            if self.target_language is not None:
                self.model.write_in(self.target_language)

    def train_dataloader(self) -> Loader:
        """Pairs in random order, those of a batch of like length."""
        training, _ = self.examples()
        if self.row_tokens is not None:
            return self._packed_loader(training, self.row_tokens)
        if self.batch_tokens is None:
            return super().train_dataloader()
        lengths = [max(map(len, sides)) for sides in self._ids(training)]
        return self.loader(training, self.collate, is_training=True, lengths=lengths)

    def _packed_loader(self, pairs: Sequence[Pair], row_tokens: int) -> Loader:
        """Batches of rows; the pairs' lengths are asked for, so their ids are kept."""
        ids = self._ids(pairs)
        lengths = [max(map(len, sides)) for sides in ids]
        return self.loader(ids, self._packed, is_training=True, lengths=lengths, row_tokens=row_tokens)

    def _ids(self, pairs: Sequence[Pair]) -> list[tuple[list[int], list[int]]]:
        """Ids of what is read, and of what is to be written, which end in the end-of-text token."""
        read = self.tokenizer.cut([pair.input for pair in pairs], self.max_length)
        written = self.tokenizer.encode_targets([pair.target for pair in pairs], self.max_length)
        return list(zip(read, written, strict=True))

    def predict_dataloader(self) -> "DataLoader[Batch]":
        """The held-out texts that are read, as `prompts`."""
        return self.prompts([pair.input for pair in self.examples()[1]])

    def questions(self) -> list[Question]:
        """The held-out texts that are read, and what is to be written about them."""
        return [Question(pair.input, pair.target) for pair in self.examples()[1]]

    def baselines(self) -> dict[str, float]:
        """What is wrong where the text that is read is written as it is."""
        texts, right = zip(*self.questions(), strict=True)
        return {"copying what it reads": characters_wrong(texts, right)}

    def collate(self, pairs: Sequence[Pair]) -> Batch:
        """What is read as padded ids, what is to be written as labels that end in the end-of-text token."""
        if self.row_tokens is not None:
            return self._packed(self._ids(pairs))
        batch: Batch = dict(self.tokenizer.batch([pair.input for pair in pairs], max_length=self.max_length))
        alone = [[number] for number in range(len(pairs))]
        batch["labels"], _ = laid_out([written for _, written in self._ids(pairs)], alone, IGNORED)
        return batch

    def _packed(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Batch:
        assert self.row_tokens is not None
        sizes = [tuple(map(len, sides)) for sides in pairs]
        rows = in_rows(sizes, [self.row_tokens, self.row_tokens])
        read, written = zip(*pairs, strict=True)
        padding = self.tokenizer.special_id("pad_token") or 0
        batch = dict(zip(("input_ids", "attention_mask"), laid_out(read, rows, padding), strict=True))
        labels = zip(("labels", "decoder_attention_mask"), laid_out(written, rows, IGNORED), strict=True)
        return {**batch, **dict(labels)}


def _texts(record: Record, column: str) -> list[str]:
    """What stands under a column: a text, a number, or several texts."""
    value = record.values[column]
    if isinstance(value, int) and not isinstance(value, bool):
        return [str(value)]
    several = value if isinstance(value, list) and value else [value]
    return [whole_text(text, column, record.place) for text in several]
