"""Questions with several answers, one of which is right."""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch.utils.data import DataLoader

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind
from zoo.data.examples import ExampleData
from zoo.data.measures import Measure, Question
from zoo.data.reading import Record, read_records, require_text
from zoo.data.samples import write_records
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.heads.multiple_choice import paired
from zoo.training.randomness import seed_of


class Choice(NamedTuple):
    """A question, its answers, and the number of the right one."""

    question: str
    choices: tuple[str, ...]
    right: int
    place: str


class MultipleChoice(ExampleData[Choice]):
    """Questions and answers to choose from, for heads that choose one.

    Args:
        source: A jsonl(.gz) file, a folder of such, or a data set's `owner/name[@revision][#configuration]`;
            either may be followed by `:split`.
        question: Where a row's question stands.
        choices: Where the list of its answers stands.
        answer: Where the right one stands: its number from 0, its letter, or the answer itself.
        validation: A source for validation, or the name of a split of `source`; by default some of `source`
            is held out.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a question with one answer; what is longer is cut, the longer text of both.
        batch_size: Questions of a batch, each with all its answers.
        seed: Of the order in which questions are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    tasks = frozenset({"multiple-choice"})
    measure = Measure(name="accuracy", subject="questions it never saw", unit="told right (more is better)")

    def __init__(
        self,
        source: str,
        question: str = "question",
        choices: str = "choices",
        answer: str = "answer",
        validation: str | None = None,
        validation_fraction: float = 0.1,
        tokenizer: TokenizerKind = "wordpiece",
        vocab_size: int = 8192,
        max_length: int = 128,
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(
            source, validation, validation_fraction, tokenizer, vocab_size, max_length, batch_size, seed,
            num_workers, on_bad_row,
        )  # fmt: skip
        self.question, self.choices, self.answer_column = question, choices, answer

    @classmethod
    def example_rows(cls) -> Iterator[dict[str, Any]]:
        """Rows of a small one."""
        for number in range(80):
            yield {"question": f"what is {number}", "choices": ["a cat", "a dog"], "answer": number % 2}

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        source = write_records(folder, cls.example_rows())
        return cls(source=source, vocab_size=300, max_length=16, batch_size=4)

    def read_source(self, source: str) -> list[Choice]:
        """The questions of one source."""
        found = []
        for record in read_records(source, [], self.bad_rows):
            with self.bad_rows.row():
                found.append(self.choice(record))
        return found

    def choice(self, record: Record) -> Choice:
        """A row's question.

        Raises:
            DataError: It lacks something, or its right answer is none of its answers.
        """
        record.require(self.question, self.choices, self.answer_column)
        question = require_text(record.values[self.question], self.question, record.place)
        given = record.values[self.choices]
        if not isinstance(given, list) or len(given) < 2:
            raise DataError(
                f"`{self.choices}` must be a list of at least two, got {given!r}", source=record.place
            )
        choices = tuple(require_text(str(choice), self.choices, record.place) for choice in given)
        return Choice(question, choices, self._right(record, choices), record.place)

    def _right(self, record: Record, choices: Sequence[str]) -> int:
        answer = str(record.values[self.answer_column]).strip()
        if answer in choices:
            return choices.index(answer)
        number = (
            int(answer) if answer.isdecimal() else ord(answer.upper()) - ord("A") if len(answer) == 1 else -1
        )
        if 0 <= number < len(choices):
            return number
        raise DataError(
            f"`{self.answer_column}` is `{answer}`, which is none of the {len(choices)} answers",
            source=record.place,
            hint="give its number from 0, its letter, or the answer itself",
        )

    def content(self, example: Choice) -> str:
        """The question."""
        return example.question

    def texts(self, example: Choice) -> Iterable[str]:
        """The question and its answers."""
        return example.question, *example.choices

    def collate(self, examples: Sequence[Choice]) -> Batch:
        """A row for each answer, and the number of the right one of each question as its label."""
        batch = paired(
            [(example.question, example.choices) for example in examples], self.tokenizer, self.max_length
        )
        return {**batch, "labels": torch.tensor([example.right for example in examples])}

    def predict_dataloader(self) -> "DataLoader[Batch]":
        """The held-out questions with their answers, as `prompts`."""
        return self.prompts([(example.question, example.choices) for example in self.examples()[1]])

    def questions(self) -> list[Question]:
        """The held-out questions and the right answer to each."""
        return [
            Question((example.question, example.choices), example.choices[example.right])
            for example in self.examples()[1]
        ]

    def answer(self, prediction: Any) -> str:
        """The answer that is chosen."""
        return str(prediction["answer"])

    def baselines(self) -> dict[str, float]:
        """Accuracy of choosing blindly."""
        held_out = self.examples()[1]
        return {"choosing blindly": sum(1 / len(example.choices) for example in held_out) / len(held_out)}


NUM_CHOICES = 4


class NumberChoice(MultipleChoice):
    """Problems whose answer is a number, as GSM8K's: the right one among four.

    The others are numbers that the problem or its solution names, then some near the right one; which they
    are is decided by the problem alone.

    Args:
        source: A jsonl(.gz) file, a folder of such, or a data set's `owner/name[@revision][#configuration]`;
            either may be followed by `:split`.
        question: Where a row's problem stands.
        answer: Where its solution stands, which ends in the right number, after `####` or alone.
        validation: A source for validation, or the name of a split of `source`; by default some of `source`
            is held out.
        validation_fraction: Share of `source` that is held out.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a problem with one number.
        batch_size: Problems of a batch, each with its four numbers.
        seed: Of the order in which problems are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    def __init__(
        self,
        source: str,
        question: str = "question",
        answer: str = "answer",
        validation: str | None = None,
        validation_fraction: float = 0.1,
        tokenizer: TokenizerKind = "wordpiece",
        vocab_size: int = 8192,
        max_length: int = 192,
        batch_size: int = 8,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(
            source, question, "choices", answer, validation, validation_fraction, tokenizer, vocab_size,
            max_length, batch_size, seed, num_workers, on_bad_row,
        )  # fmt: skip

    @classmethod
    def example_rows(cls) -> Iterator[dict[str, Any]]:
        """Rows of a small one."""
        for number in range(80):
            yield {"question": f"{number} and one", "answer": f"#### {number + 1}"}

    def choice(self, record: Record) -> Choice:
        """A row's problem, and four numbers of which one is right.

        Raises:
            DataError: Its solution ends in no number.
        """
        record.require(self.question, self.answer_column)
        question, solution = (
            require_text(str(record.values[name]), name, record.place)
            for name in (self.question, self.answer_column)
        )
        numbers = _numbers(solution.rpartition("####")[2])
        if not numbers:
            raise DataError(
                f"`{self.answer_column}` ends in no number", source=record.place, hint="it ends: #### 72"
            )
        right = numbers[-1]
        draw = random.Random(seed_of("choices", question))  # noqa: S311 - answers, not secrets
        others = [number for number in dict.fromkeys(_numbers(f"{solution} {question}")) if number != right]
        near = (right + sign * step for step in range(1, NUM_CHOICES + 1) for sign in (1, -1))
        wrong = list(dict.fromkeys([*draw.sample(others, min(len(others), NUM_CHOICES - 1)), *near]))
        choices = [right, *wrong[: NUM_CHOICES - 1]]
        draw.shuffle(choices)
        return Choice(question, tuple(f"{number:g}" if number % 1 else f"{number:.0f}" for number in choices),
                      choices.index(right), record.place)  # fmt: skip


def _numbers(text: str) -> list[float]:
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+", text)
    return [float(number.replace(",", "")) for number in found]
