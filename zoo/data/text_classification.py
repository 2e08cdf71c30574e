"""Texts, each with a label."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind, ZooData, require_least
from zoo.data.loading import HeldOut, Loader
from zoo.data.measures import Measure, Question
from zoo.data.reading import Row, read_rows
from zoo.data.splitting import apart
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.modules.base import ZooModule
from zoo.tokenizer import Tokenizer


class Example(NamedTuple):
    """One text with its label."""

    text: str
    label: str
    place: str


class TextClassification(ZooData):
    """Texts and their labels, for heads that tell one label of several.

    Args:
        source: A jsonl(.gz) or csv file, a folder of such, or a data set's `owner/name[:split]`.
        text: Where a row's text stands.
        label: Where its label stands: a name, or a number among the head's labels.
        validation: A source for validation; by default some of `source` is held out.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a text; what is longer is cut.
        batch_size: Texts of a batch.
        batch_tokens: Tokens of a batch, padding counted, in place of batch_size.
        seed: Of the order in which texts are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    tasks = frozenset({"text-classification"})
    measure = Measure(name="accuracy", subject="texts it never saw", unit="told right (more is better)")

    def __init__(
        self,
        source: str,
        text: str = "text",
        label: str = "label",
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
            validation_fraction, tokenizer, vocab_size, batch_size, seed, num_workers, on_bad_row
        )
        require_least("max_length", max_length, 2)
        require_least("batch_tokens", batch_tokens or max_length, max_length)
        self.batch_tokens = batch_tokens
        self.source, self.text, self.label = source, text, label
        self.validation, self.max_length = validation, max_length
        self.labels: list[str] = []
        self._parts: tuple[list[Example], list[Example]] | None = None
        self._tokenizer: Tokenizer | None = None

    def examples(self) -> tuple[list[Example], list[Example]]:
        """Examples to train on and examples held out, read once."""
        if self._parts is None:
            self._parts = self.read()
        for part, name in zip(self._parts, ("train on", "hold out"), strict=True):
            if not part:
                raise DataError(f"there is no example to {name}", hint="give more, or another split")
        return self._parts

    def read(self) -> tuple[list[Example], list[Example]]:
        """Reads the source, and holds some of it out where no other is named."""
        training = self._read(self.source)
        if self.validation is not None:
            return training, self._read(self.validation)
        return apart(training, lambda example: example.text, self.validation_fraction)

    def _read(self, source: str) -> list[Example]:
        examples: list[Example] = []
        for row in read_rows(source, [self.text, self.label], self.bad_rows):
            with self.bad_rows.row():
                examples.append(self._example(row))
        return examples

    def _example(self, row: Row) -> Example:
        if not row.values[self.label]:
            raise DataError(f"`{self.label}` is empty", source=row.place)
        return Example(row.values[self.text], row.values[self.label], row.place)

    def setup(self, stage: str) -> None:
        """Reads the examples, and gives the model labels and a tokenizer, if it has none."""
        if self.model:
            self.require_fit(self.model)
        else:
            self.labels = self.found_labels()
        training, held_out = self.examples()
        self._parts = self._labelled(training), self._labelled(held_out)
        training, _ = self.examples()
        self._tokenizer = self.shared_tokenizer(lambda: [example.text for example in training])

    def found_labels(self) -> list[str]:
        """The labels that stand in the data, in order; numbers by their size."""
        labels = sorted({example.label for part in self.examples() for example in part})
        return sorted(labels, key=int) if all(map(str.isdecimal, labels)) else labels

    def require_fit(self, model: ZooModule) -> None:
        """Refuses a model that cannot read these texts, and tells its head the labels, if it has none.

        Raises:
            SpecError: They are for another head, or too long, or of too many ids.
        """
        super().require_fit(model)
        self.require_length(model, "max_length", self.max_length)
        head = model.head_specs[model.head_name(self.head)]
        known = getattr(head, "labels", None)
        self.labels = known or model.adopt_labels(self.found_labels(), self.head)

    def _labelled(self, examples: Sequence[Example]) -> list[Example]:
        """Those that bear one of the head's labels."""
        kept: list[Example] = []
        for example in examples:
            with self.bad_rows.row():
                self._number(example)
                kept.append(example)
        return kept

    def _number(self, example: Example) -> int:
        if example.label in self.labels:
            return self.labels.index(example.label)
        if example.label.isdecimal() and int(example.label) < len(self.labels):
            return int(example.label)
        raise DataError(
            f"`{self.label}` is `{example.label}`, which is none of the head's labels",
            source=example.place,
            hint=f"they are: {', '.join(self.labels)}",
        )

    def train_dataloader(self) -> Loader:
        """Examples in random order, those of a batch of like length."""
        training, _ = self.examples()
        lengths = [len(example.text) for example in training]
        if self.batch_tokens is not None and self._tokenizer is not None:
            lengths = list(map(len, self._tokenizer.cut([text for text, *_ in training], self.max_length)))
        return self.loader(training, self.collate, is_training=True, lengths=lengths)

    def val_dataloader(self) -> HeldOut:
        """Held-out examples in order."""
        return self.loader(self.examples()[1], self.collate, is_training=False)

    def predict_dataloader(self) -> "DataLoader[Batch]":
        """The held-out texts, as `prompts`."""
        return self.prompts([example.text for example in self.examples()[1]])

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Texts as ids, padded to the longest, and their labels by number."""
        assert self._tokenizer is not None
        batch: Batch = dict(
            self._tokenizer.batch([example.text for example in examples], max_length=self.max_length)
        )
        batch["labels"] = torch.tensor([self._number(example) for example in examples])
        return batch

    def questions(self) -> list[Question]:
        """The held-out texts and their labels."""
        return [Question(example.text, self.labels[self._number(example)]) for example in self.examples()[1]]

    def answer(self, prediction: Any) -> str:
        """The label."""
        return str(prediction["label"])

    def baselines(self) -> dict[str, float]:
        """Accuracy on held-out texts of the commonest label, and of a linear model on weighted words."""
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
        linear.fit([example.text for example in training], [example.label for example in training])
        right = linear.score([example.text for example in held_out], [example.label for example in held_out])
        return {**measured, "TF-IDF and logistic regression": float(right)}
