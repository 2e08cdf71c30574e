"""Questions about texts, whose answers stand there."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch.utils.data import DataLoader

from zoo.data import splits
from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind, require_least
from zoo.data.examples import ExampleData
from zoo.data.measures import Measure, Question
from zoo.data.reading import SUFFIXES, Ids, Record, content_of, read_records, require_text, whole_text
from zoo.data.samples import write_records
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.heads.windows import windows


class Asked(NamedTuple):
    """A question, the text that it is about, and the answers that stand there, each from a character on."""

    question: str
    context: str
    answers: list[tuple[str, int]]
    place: str


class ExtractiveQA(ExampleData[Asked]):
    """Questions about texts in SQuAD's format, for heads that answer by a piece of the text.

    Read are SQuAD's own json, versions 1 and 2, and rows of `question`, `context` and `answers`, which is a
    list of `{text, answer_start}` or, as on the Hub, lists of both. No answer: the question has none.

    Args:
        source: A json, jsonl(.gz) file, a folder of such, or a data set's
            `owner/name[@revision][#configuration]`; either may be followed by `:split`.
        validation: A source for validation, or the name of a split of `source`; by default some of `source`
            is held out, by text.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a window, question included.
        stride: Tokens that a window shares with the one before.
        batch_size: Questions of a batch, each with all windows of its text.
        seed: Of the order in which questions are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    tasks = frozenset({"question-answering"})
    measure = Measure(
        name="f1", subject="questions it never saw", unit="F1 of words (more is better)", form=".3f"
    )

    def __init__(
        self,
        source: str,
        validation: str | None = None,
        validation_fraction: float = 0.1,
        tokenizer: TokenizerKind = "wordpiece",
        vocab_size: int = 8192,
        max_length: int = 384,
        stride: int = 128,
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(
            source, validation, validation_fraction, tokenizer, vocab_size, max_length, batch_size, seed,
            num_workers, on_bad_row,
        )  # fmt: skip
        require_least("stride", stride, 1)
        require_least("max_length", max_length, stride + 2)
        self.stride = stride

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        rows = (
            {
                "question": f"who is {number}",
                "context": f"number {number} is Anna",
                "answers": [{"text": "Anna", "answer_start": len(f"number {number} is ")}],
            }
            for number in range(80)
        )
        source = write_records(folder, rows)
        return cls(source=source, vocab_size=300, max_length=32, stride=4, batch_size=4)

    def read_source(self, source: str) -> list[Asked]:
        """The questions of one source."""
        files = splits.files_of(source, (*SUFFIXES, ".json"))
        if files and all(file.suffix == ".json" for file in files):
            records: Iterable[Record] = (record for file in files for record in self._articles(file))
        else:
            records = read_records(source, ["question", "context", "answers"], self.bad_rows)
        found, ids = [], Ids()
        for record in records:
            with self.bad_rows.row():
                if record.values.get("id") is not None:
                    ids.add(record.values["id"], "id", record.place)
                found.append(_asked(record))
        return found

    def _articles(self, file: Path) -> Iterator[Record]:
        """The questions of SQuAD's own json, each with its id for a place."""
        try:
            articles = json.loads(content_of(file, self.bad_rows))["data"]
            paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
            asked = [(paragraph["context"], one) for paragraph in paragraphs for one in paragraph["qas"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{file} is no SQuAD: {error!r}",
                hint="it has `data`, of `paragraphs`, of `context` and `qas`",
            ) from error
        for number, (context, one) in enumerate(asked):
            yield Record({**one, "context": context}, f"{file} question {one.get('id', number)}")

    def content(self, example: Asked) -> str:
        """The text that it is about, so that all questions about it stay together."""
        return example.context

    def texts(self, example: Asked) -> Iterable[str]:
        """Question and text."""
        return example.question, example.context

    def collate(self, examples: Sequence[Asked]) -> Batch:
        """Windows of question and text; `labels` are the first answer's tokens, or the first token twice."""
        pairs = [(example.question, example.context) for example in examples]
        batch = windows(pairs, self.tokenizer, self.max_length, self.stride)
        labels = [
            _ends(examples[number], offsets, in_text) or [first, first]
            for number, offsets, in_text, first in zip(
                batch["example"].tolist(),
                batch["offsets"].tolist(),
                batch["text_mask"].tolist(),
                batch["attention_mask"].argmax(-1).tolist(),
                strict=True,
            )
        ]
        answers = [[text for text, _ in example.answers] for example in examples]
        return {**batch, "labels": torch.tensor(labels), "answers": answers}

    def predict_dataloader(self) -> "DataLoader[Batch]":
        """The held-out questions with their texts, as `prompts`."""
        return self.prompts([(example.question, example.context) for example in self.examples()[1]])

    def questions(self) -> list[Question]:
        """The held-out questions and the first right answer to each."""
        return [
            Question((example.question, example.context), example.answers[0][0] if example.answers else "")
            for example in self.examples()[1]
        ]

    def answer(self, prediction: Any) -> str:
        """The answer."""
        return str(prediction["text"])


def _ends(example: Asked, offsets: list[tuple[int, int]], in_text: list[bool]) -> list[int] | None:
    """The first and the last token of the first answer, where a window holds all of it."""
    if not example.answers:
        return None
    text, start = example.answers[0]
    end = start + len(text)
    tokens = [token for token, inside in enumerate(in_text) if inside]
    if not tokens or offsets[tokens[0]][0] > start or offsets[tokens[-1]][1] < end:
        return None
    held = [token for token in tokens if offsets[token][0] < end and offsets[token][1] > start]
    return [held[0], held[-1]] if held else None


def _asked(record: Record) -> Asked:
    record.require("question", "context", "answers")
    question, context = (
        require_text(record.values[name], name, record.place) for name in ("question", "context")
    )
    answers = [(_text_of(answer, record), _start_of(answer, record)) for answer in _answers(record)]
    for text, start in answers:
        if context[start : start + len(text)] != text:
            raise DataError(
                f"the answer `{text[:40]}` does not stand at character {start}",
                source=record.place,
                hint=f"it stands at {context.find(text)}"
                if text in context
                else "it stands nowhere in `context`",
            )
    return Asked(question.strip(), context, [pair for pair in answers if pair[0]], record.place)


def _answers(record: Record) -> list[Any]:
    given = record.values["answers"]
    if isinstance(given, dict) and {"text", "answer_start"} <= given.keys():
        pairs = zip(given["text"], given["answer_start"], strict=True)
        return [{"text": text, "answer_start": start} for text, start in pairs]
    if isinstance(given, list):
        return given
    raise DataError(
        f"`answers` must be a list, got {type(given).__name__}",
        source=record.place,
        hint="of {text, answer_start}; it is empty where there is no answer",
    )


def _text_of(answer: Any, record: Record) -> str:
    return whole_text(
        answer.get("text") if isinstance(answer, dict) else answer, "answers.text", record.place
    )


def _start_of(answer: Any, record: Record) -> int:
    start = answer.get("answer_start")
    if not isinstance(start, int) or start < 0:
        raise DataError(f"`answers.answer_start` must be a place, got {start!r}", source=record.place)
    return start
