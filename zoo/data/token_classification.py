"""Sentences, each of whose words has a label."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from torch.utils.data import DataLoader

from zoo.data import splits
from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind
from zoo.data.examples import ExampleData, column_of
from zoo.data.measures import Measure, Question
from zoo.data.reading import SUFFIXES, Record, content_of, read_records, whole_text
from zoo.data.samples import write_records
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.heads.spans import spans
from zoo.heads.token_classification import first_pieces, word_spans
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule

COLUMNS = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".tsv", ".txt")
"""Endings of files with a word and its label on each line; `.gz` may follow."""
WORDS = ("tokens", "words")
LABELS = ("ner_tags", "tags", "labels")


class Sentence(NamedTuple):
    """Words and their labels."""

    words: list[str]
    labels: list[str]
    places: list[str]
    """Where each label was found."""

    @property
    def place(self) -> str:
        """Where it begins."""
        return self.places[0]


class TokenClassification(ExampleData[Sentence]):
    """Sentences whose words have labels, for heads that tell them.

    Files have a word and its label on each line, with a tab or spaces between, and an empty line between
    sentences, as CoNLL's; of more columns the first and the last count. Or they are jsonl, with lists of
    words and of labels. A sentence that is too long is cut between two words of no span, and all of it is
    read.

    Args:
        source: Such a file, a folder of such, or a data set's `owner/name[@revision][#configuration]`; either
            may be followed by `:split`.
        words: Where the words stand, in jsonl and on the Hub. None: `tokens` or `words`.
        labels: Where their labels stand. None: `ner_tags`, `tags` or `labels`.
        validation: A source for validation, or the name of a split of `source`; by default some of `source`
            is held out.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a row.
        batch_size: Sentences of a batch.
        seed: Of the order in which sentences are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    tasks = frozenset({"token-classification"})
    measure = Measure(
        name="f1", subject="sentences it never saw", unit="F1 of spans (more is better)", form=".3f"
    )

    def __init__(
        self,
        source: str,
        words: str | None = None,
        labels: str | None = None,
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
        self.words_column, self.labels_column = words, labels
        self.labels: list[str] = []

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        words = ["the", "cat", "saw"]
        rows = (
            {
                "tokens": [*words[: 1 + number % 3], f"Anna{number}"],
                "tags": [*["O"] * (1 + number % 3), "B-name"],
            }
            for number in range(80)
        )
        return cls(source=write_records(folder, rows), vocab_size=300, max_length=16, batch_size=4)

    def read_source(self, source: str) -> list[Sentence]:
        """The sentences of one source."""
        files = splits.files_of(source, (*SUFFIXES, *COLUMNS, *(f"{suffix}.gz" for suffix in COLUMNS)))
        if files and all(_has_columns(file) for file in files):
            return [sentence for file in files for sentence in self._lines(file)]
        found: list[Sentence] = []
        for record in read_records(source, [], self.bad_rows):
            with self.bad_rows.row():
                found += self._sentence(record)
        return found

    def _lines(self, file: Path) -> Iterator[Sentence]:
        words: list[tuple[str, str, str]] = []
        for number, line in enumerate([*content_of(file, self.bad_rows).split("\n"), ""], 1):
            if line.strip() and not line.startswith(("# ", "-DOCSTART-")):
                with self.bad_rows.row():
                    words.append(_word(line, f"{file}:{number}"))
            elif words and not line.strip():
                yield Sentence(*map(list, zip(*words, strict=True)))
                words = []

    def _sentence(self, record: Record) -> Iterator[Sentence]:
        words = column_of(record.values, self.words_column, WORDS, "tokens")
        labels = column_of(record.values, self.labels_column, LABELS, "ner_tags")
        record.require(words, labels)
        lists = {name: _list(record.values[name], name, record.place) for name in (words, labels)}
        if len(lists[words]) != len(lists[labels]):
            raise DataError(
                f"a row has {len(lists[words])} `{words}` and {len(lists[labels])} `{labels}`",
                source=record.place,
                hint="give each word one label",
            )
        if lists[words]:
            for word in lists[words]:
                _require_word(word, record.place)
            yield Sentence(lists[words], lists[labels], [record.place] * len(lists[words]))

    def content(self, example: Sentence) -> str:
        """Its text."""
        return " ".join(example.words)

    def texts(self, example: Sentence) -> Iterable[str]:
        """Its text."""
        return (self.content(example),)

    def setup(self, stage: str) -> None:
        """Reads the sentences, cuts those that are too long, and gives the model labels and a tokenizer."""
        super().setup(stage)
        if not self.model:
            self.labels = self.found_labels()
        training, held_out = ([*self._fitting(part)] for part in self.examples())
        self._parts = training, held_out
        self.examples()

    def found_labels(self) -> list[str]:
        """The labels that stand in the data: none first, then by kind."""
        found = {label for part in self.examples() for sentence in part for label in sentence.labels}
        return sorted(found, key=lambda label: (label != "O", label[2:], label))

    def require_fit(self, model: ZooModule) -> None:
        """Refuses a model that cannot read these sentences, and tells its head the labels, if it has none.

        Raises:
            SpecError: They are for another head, or too long, or of too many ids.
        """
        super().require_fit(model)
        head = model.head_specs[model.head_name(self.head)]
        known = getattr(head, "labels", None)
        self.labels = known or model.adopt_labels(self.found_labels(), self.head)

    def _fitting(self, sentences: Sequence[Sentence]) -> Iterator[Sentence]:
        """Sentences under the head's labels, in pieces that fit into a row."""
        for sentence in sentences:
            with self.bad_rows.row():
                for label, place in zip(sentence.labels, sentence.places, strict=True):
                    self._number(label, place)
                yield from self._pieces(sentence)

    def _pieces(self, sentence: Sentence) -> Iterator[Sentence]:
        whole = self.tokenizer.encodings([self.content(sentence)])[0]
        cut = self.tokenizer.encodings([self.content(sentence)], self.max_length)[0]
        if len(whole.ids) <= len(cut.ids):
            yield sentence
            return
        fitting = len(first_pieces(cut.offsets, word_spans(sentence.words))) - 1  # the last may be cut itself
        while fitting > 1 and sentence.labels[fitting][0] in "IE":
            fitting -= 1
        fitting = max(fitting, 1)  # of a word that fills a row the beginning is read
        yield Sentence(*(part[:fitting] for part in sentence))
        yield from self._pieces(Sentence(*(part[fitting:] for part in sentence)))

    def _number(self, label: str, place: str) -> int:
        if label not in self.labels:
            raise DataError(
                f"the label `{label}` is none of the head's",
                source=place,
                hint=f"they are: {', '.join(self.labels)}",
            )
        return self.labels.index(label)

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        """Sentences as ids; the first token of each word bears its label by number, others -100."""
        encodings = self.tokenizer.encodings(list(map(self.content, sentences)), self.max_length)
        rows = []
        for sentence, encoding in zip(sentences, encodings, strict=True):
            row = [IGNORED] * len(encoding.ids)
            for word, token in first_pieces(encoding.offsets, word_spans(sentence.words)).items():
                row[token] = self._number(sentence.labels[word], sentence.places[word])
            rows.append(row)
        return {**self.tokenizer.padded(encodings), "labels": self.tokenizer.filled(rows, IGNORED)}

    def predict_dataloader(self) -> "DataLoader[Batch]":
        """The held-out sentences, as `prompts`."""
        return self.prompts([self.content(sentence) for sentence in self.examples()[1]])

    def questions(self) -> list[Question]:
        """The held-out sentences and their spans."""
        return [
            Question(
                self.content(sentence),
                "; ".join(
                    f"{kind}: {' '.join(sentence.words[first : last + 1])}"
                    for kind, first, last in spans(sentence.labels)
                ),
            )
            for sentence in self.examples()[1]
        ]

    def answer(self, prediction: Any) -> str:
        """The spans."""
        return "; ".join(f"{span['label']}: {span['text']}" for span in prediction)


def _has_columns(file: Path) -> bool:
    return file.name.removesuffix(".gz").endswith(COLUMNS)


def _word(line: str, place: str) -> tuple[str, str, str]:
    fields = line.split("\t") if "\t" in line else line.split()
    if len(fields) < 2:
        raise DataError(
            f"a line has no label: `{line.strip()[:40]}`",
            source=place,
            hint="each line has a word and its label, with a tab or spaces between",
        )
    word, label = fields[0], fields[-1].strip()
    _require_word(word, place)
    return word, label, place


def _require_word(word: str, place: str) -> None:
    if not word.strip():
        raise DataError("a word is empty", source=place, hint="leave it out, with its label")


def _list(value: Any, column: str, place: str) -> list[str]:
    if not isinstance(value, list):
        raise DataError(f"`{column}` must be a list, got {type(value).__name__}", source=place)
    return [str(item) if isinstance(item, int) else whole_text(item, column, place) for item in value]
