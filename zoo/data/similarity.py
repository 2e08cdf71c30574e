"""Pairs of texts, each with how alike they are."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind
from zoo.data.examples import ExampleData, column_of
from zoo.data.measures import Measure
from zoo.data.reading import read_records, require_text
from zoo.data.samples import write_records
from zoo.data.text_classification import LABELS, PAIRS, number_of
from zoo.errors import DataError, SpecError
from zoo.heads.base import Batch


class Alike(NamedTuple):
    """Two texts, and how alike they are, from 0 to 1."""

    first: str
    second: str
    score: float
    place: str


class Similarity(ExampleData[Alike]):
    """Pairs of texts with a score, for heads that make vectors, each of one text.

    Args:
        source: A jsonl(.gz) or csv file, a folder of such, or a data set's
            `owner/name[@revision][#configuration]`; either may be followed by `:split`.
        texts: The columns of both texts. None: of usual names, such as `sentence1` and `sentence2`.
        score: The column of the score. None: `label` or `score`.
        largest_score: The score of texts that mean the same; 0 is that of those that do not.
        validation: A source for validation, or the name of a split of `source`; by default some of `source`
            is held out.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a text; what is longer is cut.
        batch_size: Pairs of a batch.
        seed: Of the order in which pairs are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    tasks = frozenset({"sentence-similarity"})
    measure = Measure(
        name="spearman",
        subject="pairs it never saw",
        unit="correlation with the scores (more is better)",
        form=".3f",
    )

    def __init__(
        self,
        source: str,
        texts: list[str] | None = None,
        score: str | None = None,
        largest_score: float = 5.0,
        validation: str | None = None,
        validation_fraction: float = 0.1,
        tokenizer: TokenizerKind = "wordpiece",
        vocab_size: int = 8192,
        max_length: int = 128,
        batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(
            source, validation, validation_fraction, tokenizer, vocab_size, max_length, batch_size, seed,
            num_workers, on_bad_row,
        )  # fmt: skip
        if texts is not None and len(texts) != 2:
            raise SpecError(f"`texts` must name two columns, got {len(texts)}", at="texts")
        if largest_score <= 0:
            raise SpecError(f"`largest_score` must be above 0, got {largest_score}", at="largest_score")
        self.columns, self.score, self.largest_score = texts, score, largest_score

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        rows = (
            {"sentence1": f"a cat {number}", "sentence2": f"a dog {number * 7}", "score": number % 6}
            for number in range(80)
        )
        return cls(source=write_records(folder, rows), vocab_size=300, max_length=16, batch_size=4)

    def read_source(self, source: str) -> list[Alike]:
        """The pairs of one source."""
        found = []
        for record in read_records(source, [], self.bad_rows):
            with self.bad_rows.row():
                held = [list(pair) for pair in PAIRS if set(pair) <= record.values.keys()]
                columns = self.columns or next(iter(held), list(PAIRS[0]))
                score = column_of(record.values, self.score, LABELS, "score")
                record.require(*columns, score)
                first, second = (require_text(record.values[name], name, record.place) for name in columns)
                number = number_of(record.values[score], score, record.place)
                if not 0 <= number <= self.largest_score:
                    raise DataError(
                        f"`{score}` must lie between 0 and {self.largest_score:g}, got {number:g}",
                        source=record.place,
                        hint="set data.largest_score",
                    )
                found.append(Alike(first, second, number / self.largest_score, record.place))
        return found

    def content(self, example: Alike) -> str:
        """Both texts."""
        return f"{example.first}\0{example.second}"

    def texts(self, example: Alike) -> Iterable[str]:
        """Both texts."""
        return example.first, example.second

    def collate(self, examples: Sequence[Alike]) -> Batch:
        """All first texts as rows, then all second ones; scores as labels."""
        texts = [example.first for example in examples] + [example.second for example in examples]
        batch: Batch = dict(self.tokenizer.batch(texts, max_length=self.max_length))
        return {**batch, "labels": torch.tensor([example.score for example in examples])}
