"""Questions, and the texts of a corpus that answer them."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind
from zoo.data.examples import ExampleData
from zoo.data.loading import HeldOut
from zoo.data.measures import Measure
from zoo.data.reading import Ids, content_of, read_records, whole_text
from zoo.data.samples import write_records
from zoo.data.splitting import warn_of_leaks
from zoo.errors import DataError
from zoo.heads.base import Batch

COLUMNS = ("query-id", "corpus-id", "score")
SUFFIXES = (".jsonl", ".jsonl.gz")


class Found(NamedTuple):
    """A question, and one text that answers it, by its number in the corpus."""

    question: str
    number: int


class Asked(NamedTuple):
    """A question, and the grades of the texts that answer it."""

    question: str
    relevant: dict[int, int]


class Retrieval(ExampleData[Found]):
    """A corpus, questions and what answers them, in BEIR's format, for heads that make vectors.

    Trained on are pairs of a question and a text that answers it. In validation the whole corpus is searched.

    Args:
        source: A folder with `corpus.jsonl(.gz)`, `queries.jsonl` or `queries_SPLIT.jsonl`, and
            `qrels/SPLIT.tsv` or `qrels_SPLIT.tsv`; or a data set of the Hub with the configurations `corpus`
            and `queries`, `owner/name[@revision]`.
        training: The split of the judgements that are trained on.
        validation: The split of those that are held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a text; what is longer is cut.
        batch_size: Pairs of a batch; of a search, texts.
        seed: Of the order in which pairs are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    tasks = frozenset({"sentence-similarity"})
    measure = Measure(
        name="ndcg_at_10", subject="questions it never saw", unit="nDCG@10 (more is better)", form=".3f"
    )

    def __init__(
        self,
        source: str,
        training: str = "train",
        validation: str = "test",
        tokenizer: TokenizerKind = "wordpiece",
        vocab_size: int = 8192,
        max_length: int = 256,
        batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(
            source,
            validation,
            0.1,
            tokenizer,
            vocab_size,
            max_length,
            batch_size,
            seed,
            num_workers,
            on_bad_row,
        )
        self.split, self.validation_split = training, validation
        self.corpus: list[str] = []
        self.asked: list[Asked] = []
        """The questions that are held out."""

    expected_failures: ClassVar[Mapping[str, str]] = {
        "a_model_trains_on_it": "one held-out batch is no search, which takes the whole corpus"
    }

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        rows = [{"_id": str(number), "text": f"a cat {number * 7}"} for number in range(60)]
        for name in ("corpus", "queries"):
            Path(write_records(folder, rows)).rename(folder / f"{name}.jsonl")
        lines = ["\t".join(COLUMNS), *(f"{number}\t{number}\t1" for number in range(60))]
        for split in ("train", "test"):
            (folder / f"qrels_{split}.tsv").write_text("\n".join(lines), "utf-8")
        return cls(source=str(folder), vocab_size=300, max_length=16, batch_size=4)

    def read(self) -> tuple[list[Found], list[Found]]:
        """Reads corpus, questions and judgements."""
        corpus = self._texts("corpus")
        numbers = {name: number for number, name in enumerate(corpus)}
        self.corpus = list(corpus.values())
        self.asked = self._judged(self.validation_split, numbers)
        parts = _pairs(self._judged(self.split, numbers)), _pairs(self.asked)
        warn_of_leaks(*parts, self.content, remedy="leave them out of the judgements of one split")
        return parts

    def read_source(self, source: str) -> list[Found]:
        """The pairs of one split."""
        raise NotImplementedError  # `read` does it, for all splits know one corpus

    def _texts(self, name: str, split: str = "") -> dict[str, str]:
        """Texts by id, with their titles before them."""
        source = f"{self.source}#{name}:{name}"
        if (folder := Path(self.source)).is_dir():
            stems = [f"{name}_{split}", name] if split else [name]
            paths = [folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
            source = str(next((path for path in paths if path.is_file()), paths[-1]))
        found, ids = {}, Ids()
        for record in read_records(source, ["_id", "text"], self.bad_rows):
            with self.bad_rows.row():
                ids.add(record.values["_id"], "_id", record.place)
                parts = [
                    str(record.values.get("title") or ""),
                    whole_text(record.values["text"], "text", record.place),
                ]
                found[str(record.values["_id"])] = " ".join(part for part in parts if part.strip())
        return found

    def _judged(self, split: str, numbers: dict[str, int]) -> list[Asked]:
        questions = self._texts("queries", split)
        found: dict[str, dict[int, int]] = {}
        for row, place in self._judgements(split):
            with self.bad_rows.row():
                asked, text, grade = (str(row.get(column, "")) for column in COLUMNS)
                if asked not in questions or text not in numbers:
                    missing = f"question `{asked}`" if asked not in questions else f"text `{text}`"
                    raise DataError(f"there is no {missing} for a judgement", source=place)
                if int(float(grade)) > 0:
                    found.setdefault(asked, {})[numbers[text]] = int(float(grade))
        return [Asked(questions[name], grades) for name, grades in found.items()]

    def _judgements(self, split: str) -> Iterator[tuple[dict[str, Any], str]]:
        folder = Path(self.source)
        if not folder.is_dir():
            for record in read_records(f"{self.source}:{split}", COLUMNS, self.bad_rows):
                yield dict(record.values), record.place
            return
        paths = [folder / "qrels" / f"{split}.tsv", folder / f"qrels_{split}.tsv"]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise DataError(
                f"the folder {folder} has no judgements of `{split}`",
                hint=f"give qrels_{split}.tsv or qrels/{split}.tsv",
            )
        rows = csv.DictReader(io.StringIO(content_of(path, self.bad_rows)), delimiter="\t")
        for row in rows:
            if missing := [column for column in COLUMNS if row.get(column) is None]:
                raise DataError(f"a row has no `{missing[0]}`", source=f"{path}:{rows.line_num}")
            yield row, f"{path}:{rows.line_num}"

    def content(self, example: Found) -> str:
        """The question."""
        return example.question

    def texts(self, example: Found) -> Iterable[str]:
        """The question and the text that answers it."""
        return example.question, self.corpus[example.number]

    def collate(self, examples: Sequence[Found]) -> Batch:
        """All questions as rows, then what answers each; the latter's numbers as labels."""
        texts = [example.question for example in examples]
        texts += [self.corpus[example.number] for example in examples]
        batch: Batch = dict(self.tokenizer.batch(texts, max_length=self.max_length))
        return {**batch, "labels": torch.tensor([example.number for example in examples])}

    def val_dataloader(self) -> "Searched":  # type: ignore[override]
        """The held-out questions, then the corpus."""
        self.examples()
        return Searched(
            self._whole(self.asked, self._collate_questions),
            self._whole(range(len(self.corpus)), self._collate_texts),
        )

    def _whole(self, rows: Any, collate: Any) -> HeldOut:
        # On every process all of it: a search needs the questions and the texts together.
        return HeldOut(rows, self.batch_size, collate, self.seed, self.num_workers, bad=self.bad_rows)

    def _collate_questions(self, asked: Sequence[Asked]) -> Batch:
        texts = [one.question for one in asked]
        batch: Batch = dict(self.tokenizer.batch(texts, max_length=self.max_length))
        return {**batch, "relevant": [one.relevant for one in asked]}

    def _collate_texts(self, numbers: Sequence[int]) -> Batch:
        texts = [self.corpus[number] for number in numbers]
        batch: Batch = dict(self.tokenizer.batch(texts, max_length=self.max_length))
        return {**batch, "numbers": torch.tensor(numbers)}


class Searched:
    """Batches of questions, then of the texts among which answers are searched."""

    def __init__(self, questions: HeldOut, corpus: HeldOut) -> None:
        self.questions, self.corpus = questions, corpus

    def __len__(self) -> int:
        return len(self.questions) + len(self.corpus)

    def __iter__(self) -> Iterator[Batch]:
        return chain(self.questions, self.corpus)


def _pairs(asked: Sequence[Asked]) -> list[Found]:
    return [Found(one.question, number) for one in asked for number in one.relevant]
