"""Texts or pairs of texts, each with a label, several labels or a number."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch.utils.data import DataLoader

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind, require_least
from zoo.data.examples import ExampleData, TextOrPair, column_of
from zoo.data.loading import Loader
from zoo.data.measures import Measure, Question
from zoo.data.reading import Record, read_records, require_text, whole_text
from zoo.data.samples import write_rows
from zoo.errors import DataError, SpecError
from zoo.heads.base import Batch
from zoo.heads.sequence_classification import ProblemType
from zoo.modules.base import ZooModule

TEXTS = ("text", "sentence", "content")
PAIRS = (
    ("sentence1", "sentence2"),
    ("text_a", "text_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
)
LABELS = ("label_text", "coarse_label", "label", "labels", "score")

BETWEEN = "|"
"""Stands between several labels in a csv."""

MEASURES = {
    "single_label_classification": Measure(
        name="accuracy", subject="texts it never saw", unit="told right (more is better)"
    ),
    "multi_label_classification": Measure(
        name="f1", subject="texts it never saw", unit="F1 of the labels (more is better)", form=".3f"
    ),
    "regression": Measure(
        name="pearson",
        subject="texts it never saw",
        unit="correlation with the right numbers (more is better)",
        form=".3f",
    ),
}


class Example(NamedTuple):
    """One text, or pair of texts, with its label, its labels, or its number."""

    text: TextOrPair
    label: Any
    place: str


class TextClassification(ExampleData[Example]):
    """Texts and their labels, for heads that tell one label of several, several labels, or a number.

    Args:
        source: A jsonl(.gz) or csv file, a folder of such, or a data set's `owner/name[#configuration]`;
            either may be followed by `:split`.
        text: The column of the text, or those of a pair. None: `text`, `sentence` or `content`, or a pair
            of columns of like names, such as `sentence1` and `sentence2`.
        label: The column of the label: a name, or a number among the head's labels; several in a list, or
            in a csv with `|` between; for a regression any number. None: the first of `label_text`,
            `coarse_label`, `label`, `labels` and `score` that a row has.
        validation: A source for validation, or the name of a split of `source`, which for a folder begins
            its files' names; by default some of `source` is held out.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a text or pair; what is longer is cut, of a pair the longer text.
        batch_size: Texts of a batch.
        batch_tokens: Tokens of a batch, padding counted, in place of batch_size.
        seed: Of the order in which texts are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    tasks = frozenset({"text-classification"})
    measure = MEASURES["single_label_classification"]

    def __init__(
        self,
        source: str,
        text: str | list[str] | None = None,
        label: str | None = None,
        validation: str | None = None,
        validation_fraction: float = 0.1,
        tokenizer: TokenizerKind = "wordpiece",
        vocab_size: int = 8192,
        max_length: int = 128,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(
            source, validation, validation_fraction, tokenizer, vocab_size, max_length, batch_size, seed,
            num_workers, on_bad_row,
        )  # fmt: skip
        require_least("batch_tokens", batch_tokens or max_length, max_length)
        if isinstance(text, list) and len(text) not in (1, 2):
            raise SpecError(f"`text` must name one column or two, got {len(text)}", at="text")
        self.batch_tokens = batch_tokens
        self.text, self.label = [text] if isinstance(text, str) else text, label
        self._column = label or "label"
        self.labels: list[str] = []
        self.problem_type: ProblemType = "single_label_classification"
        """What the head tells."""

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        return cls(source=write_rows(folder), vocab_size=300, max_length=16, batch_size=4)

    def read_source(self, source: str) -> list[Example]:
        """The examples of one source."""
        examples: list[Example] = []
        for record in read_records(source, [], self.bad_rows):
            with self.bad_rows.row():
                examples.append(self._example(record))
        return examples

    def _example(self, record: Record) -> Example:
        columns = self.text or _texts_of(record)
        label = self._column = column_of(record.values, self.label, LABELS, "label")
        record.require(*columns, label)
        texts = [require_text(record.values[column], column, record.place) for column in columns]
        text = texts[0] if len(texts) == 1 else (texts[0], texts[1])
        return Example(text, self._label(record.values[label], label, record.place), record.place)

    def _label(self, value: Any, column: str, place: str) -> Any:
        if self.problem_type == "regression":
            return number_of(value, column, place)
        if self.problem_type == "multi_label_classification":
            values = value.split(BETWEEN) if isinstance(value, str) else value
            if not isinstance(values, list):
                hint = f"give a list, or in a csv names with `{BETWEEN}` between"
                raise DataError(f"`{column}` must be labels, got {value!r}", source=place, hint=hint)
            return tuple(_name(item, column, place) for item in values if item != "")
        name = _name(value, column, place)
        if not name:
            raise DataError(f"`{column}` is empty", source=place, hint="give each text a label")
        return name

    def content(self, example: Example) -> str:
        """Its texts."""
        return "\0".join(self.texts(example))

    def texts(self, example: Example) -> Iterable[str]:
        """The text, or both of a pair."""
        return (example.text,) if isinstance(example.text, str) else example.text

    def setup(self, stage: str) -> None:
        """Reads the examples, and gives the model labels and a tokenizer, if it has none."""
        super().setup(stage)
        if not self.model:
            self.labels = self.found_labels()
        training, held_out = self.examples()
        self._parts = self._labelled(training), self._labelled(held_out)
        self.examples()

    def found_labels(self) -> list[str]:
        """The labels that stand in the data, in order; numbers by their size."""
        found: set[str] = set()
        for part in self.examples():
            for example in part:
                found.update([example.label] if isinstance(example.label, str) else example.label)
        return sorted(found, key=int) if all(map(str.isdecimal, found)) else sorted(found)

    def require_fit(self, model: ZooModule) -> None:
        """Refuses a model that cannot read these texts, and tells its head the labels, if it has none.

        Raises:
            SpecError: They are for another head, or too long, or of too many ids.
        """
        super().require_fit(model)
        head = model.head_specs[model.head_name(self.head)]
        self._tell(getattr(head, "problem_type", "single_label_classification"))
        if self.problem_type != "regression":
            known = getattr(head, "labels", None)
            self.labels = known or model.adopt_labels(self.found_labels(), self.head)

    def _tell(self, problem_type: ProblemType) -> None:
        if problem_type != self.problem_type:
            self.problem_type, self._parts = problem_type, None
        self.measure = MEASURES[problem_type]

    def _labelled(self, examples: Sequence[Example]) -> list[Example]:
        """Those whose labels are the head's."""
        kept: list[Example] = []
        for example in examples:
            with self.bad_rows.row():
                self._target(example)
                kept.append(example)
        return kept

    def _target(self, example: Example) -> Any:
        """What the head is to tell, as numbers."""
        if self.problem_type == "regression":
            return example.label
        if self.problem_type == "single_label_classification":
            return self._number(example.label, example.place)
        held = {self._number(label, example.place) for label in example.label}
        return [float(number in held) for number in range(len(self.labels))]

    def _number(self, label: str, place: str) -> int:
        if label in self.labels:
            return self.labels.index(label)
        if label.isdecimal() and int(label) < len(self.labels):
            return int(label)
        raise DataError(
            f"`{self._column}` is `{label}`, which is none of the head's labels",
            source=place,
            hint=f"they are: {', '.join(self.labels)}",
        )

    def train_dataloader(self) -> Loader:
        """Examples in random order, those of a batch of like length."""
        if self.batch_tokens is None:
            return super().train_dataloader()
        training, _ = self.examples()
        lengths = list(map(len, self.tokenizer.cut([example.text for example in training], self.max_length)))
        return self.loader(training, self.collate, is_training=True, lengths=lengths)

    def predict_dataloader(self) -> "DataLoader[Batch]":
        """The held-out texts, as `prompts`."""
        return self.prompts([example.text for example in self.examples()[1]])

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Texts as ids, padded to the longest, and their labels by number."""
        texts = [example.text for example in examples]
        batch: Batch = dict(self.tokenizer.batch(texts, max_length=self.max_length))
        batch["labels"] = torch.tensor([self._target(example) for example in examples])
        return batch

    def questions(self) -> list[Question]:
        """The held-out texts and their labels."""
        return [Question(example.text, self._said(example)) for example in self.examples()[1]]

    def _said(self, example: Example) -> str:
        if self.problem_type == "single_label_classification":
            return self.labels[self._number(example.label, example.place)]
        if self.problem_type == "regression":
            return f"{example.label:.2f}"
        return ", ".join(
            label for label, holds in zip(self.labels, self._target(example), strict=True) if holds
        )

    def answer(self, prediction: Any) -> str:
        """The label, the labels, or the number."""
        if self.problem_type == "regression":
            return f"{prediction['score']:.2f}"
        return ", ".join(prediction["labels"]) if "labels" in prediction else str(prediction["label"])

    def baselines(self) -> dict[str, float]:
        """Accuracy on held-out texts of the commonest label, and of a linear model on weighted words."""
        if self.problem_type != "single_label_classification":
            return {}
        training, held_out = self.examples()
        commonest, _ = Counter(example.label for example in training).most_common(1)[0]
        majority = sum(example.label == commonest for example in held_out) / len(held_out)
        measured = {"the commonest label": majority}
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
        except ImportError:
            print("The baseline TF-IDF is left out; it needs: pip install 'lightning-zoo[baselines]'")
            return measured
        linear = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
        known, asked = (
            ([" ".join(self.texts(example)) for example in part], [example.label for example in part])
            for part in (training, held_out)
        )
        linear.fit(*known)
        return {**measured, "TF-IDF and logistic regression": float(linear.score(*asked))}


def _texts_of(record: Record) -> Sequence[str]:
    """The columns of a row's text, or of its pair of texts, by their names."""
    if held := [pair for pair in PAIRS if set(pair) <= record.values.keys()]:
        return held[0]
    return [column_of(record.values, None, TEXTS, "text")]


def _name(value: Any, column: str, place: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return whole_text(value, column, place)


def number_of(value: Any, column: str, place: str) -> float:
    """A value that must be a finite number, or spell one.

    Raises:
        DataError: It is none.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"`{column}` must be a number, got {value!r}", source=place)
    return number
