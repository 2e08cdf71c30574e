"""Conversations, of which a language model learns what the assistant says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from torch.utils.data import DataLoader

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind, require_least
from zoo.data.chats import ChatData, contents, messages_of
from zoo.data.loading import Loader
from zoo.data.measures import Measure, Question
from zoo.data.reading import Record, read_records, require_text
from zoo.data.samples import write_records
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.tokenizer import Message

QUESTIONS = ("instruction", "prompt", "question")
ANSWERS = ("output", "response", "completion", "answer")


class Conversation(NamedTuple):
    """Messages, the assistant's among them."""

    messages: list[Message]
    place: str
    tests: str = ""

    @property
    def last_answer(self) -> int:
        """The number of the assistant's last message."""
        return max(number for number, said in enumerate(self.messages) if said["role"] == "assistant")


class Conversations(ChatData[Conversation]):
    """Conversations as rows, of which only what the assistant says is learnt.

    A row has `messages`, each with a `role` and a `content`; or a question and its answer.

    Args:
        source: A jsonl(.gz) file, a folder of such, or a data set's `owner/name[@revision][#configuration]`;
            either may be followed by `:split`.
        messages: Where a row's messages stand, in rows that have them.
        question: Where a question stands in rows without messages, by default in `instruction`, `prompt` or
            `question`; of several columns, those with a text are joined.
        answer: Where its answer stands, by default in `output`, `response`, `completion` or `answer`.
        tests: Where Python tests of a row's answer stand, a text or a list of texts: `zoo.callbacks.PassAtK`
            then asks for programs.
        validation: A source for validation, or the name of a split of `source`; by default some of `source`
            is held out.
        validation_fraction: Share of `source` that is held out.
        template: A file of Jinja that makes a text of messages; by default the model's own, or a plain one
            where it has none. It is saved with the model.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a conversation; of a longer one the end is cut.
        batch_size: Conversations of a batch; of packed ones, rows.
        row_tokens: Packs several into rows of so many tokens, in which none sees another.
        seed: Of the order in which conversations are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    noun = "conversation"
    tasks = frozenset({"text-generation"})
    measure = Measure(
        name="perplexity", subject="answers it never saw", unit="perplexity (less is better)", form=".1f"
    )

    def __init__(
        self,
        source: str,
        messages: str = "messages",
        question: str | list[str] | None = None,
        answer: str | None = None,
        tests: str | None = None,
        validation: str | None = None,
        validation_fraction: float = 0.05,
        template: str | None = None,
        tokenizer: TokenizerKind = "bpe",
        vocab_size: int = 8192,
        max_length: int = 1024,
        batch_size: int = 8,
        row_tokens: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(
            source, validation, validation_fraction, template, tokenizer, vocab_size, max_length, batch_size,
            seed, num_workers, on_bad_row,
        )  # fmt: skip
        require_least("row_tokens", row_tokens or max_length, max_length)
        self.row_tokens = row_tokens
        self.messages, self.question, self.answer_column, self.tests = messages, question, answer, tests

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        rows = ({"instruction": f"say {number}", "output": f"it is {number}"} for number in range(80))
        return cls(source=write_records(folder, rows), vocab_size=300, max_length=48, batch_size=4)

    def read_source(self, source: str) -> list[Conversation]:
        """The conversations of one source."""
        found = []
        for record in read_records(source, [], self.bad_rows):
            with self.bad_rows.row():
                found.append(self.conversation(record))
        return found

    def conversation(self, record: Record) -> Conversation:
        """A row's messages.

        Raises:
            DataError: It has none, or the assistant says nothing.
        """
        if self.messages in record.values:
            messages = messages_of(record, self.messages)
        else:
            said = (("user", self._asked(record)), ("assistant", self._answered(record)))
            messages = [{"role": role, "content": content} for role, content in said]
        if all(message["role"] != "assistant" for message in messages):
            raise DataError("the assistant says nothing in a conversation", source=record.place)
        return Conversation(messages, record.place, self._tests(record))

    def _tests(self, record: Record) -> str:
        if self.tests is None:
            return ""
        record.require(self.tests)
        given = record.values[self.tests]
        return require_text("\n".join(given) if isinstance(given, list) else given, self.tests, record.place)

    def _asked(self, record: Record) -> str:
        columns = [self.question] if isinstance(self.question, str) else self.question
        if columns is None:
            first = next((name for name in QUESTIONS if name in record.values), None)
            if first is None:
                raise DataError(
                    f"a row has neither `{self.messages}` nor a question",
                    source=record.place,
                    hint=f"name its columns by data.messages, or by data.question and data.answer; "
                    f"it has: {', '.join(record.values)}",
                )
            columns = [first, "input"] if "input" in record.values else [first]
        record.require(*columns)
        parts = [require_text(record.values[columns[0]], columns[0], record.place)]
        parts += [str(record.values[name]) for name in columns[1:] if record.values[name]]
        return "\n\n".join(parts)

    def _answered(self, record: Record) -> str:
        column = self.answer_column or next((name for name in ANSWERS if name in record.values), ANSWERS[0])
        record.require(column)
        return require_text(record.values[column], column, record.place)

    def content(self, example: Conversation) -> str:
        """What is said first: conversations that begin alike are on one side."""
        return str(example.messages[0]["content"])

    def texts(self, example: Conversation) -> list[str]:
        """What is said."""
        return contents(example.messages)

    def train_dataloader(self) -> Loader:
        """Conversations in random order, those of a batch of like length, or packed."""
        if self.row_tokens is None:
            return super().train_dataloader()
        training, _ = self.examples()
        lengths = [len(self.labelled(example.messages)[0]) for example in training]
        return self.loader(
            training, self.collate, is_training=True, lengths=lengths, row_tokens=self.row_tokens
        )

    def collate(self, examples: Sequence[Conversation]) -> Batch:
        """Ids, with the assistant's as labels; and of each conversation the last answer and what it answers,
        as `answers` and `prompts`, for modules that have it written.
        """
        batch = self.laid_out([self.labelled(example.messages) for example in examples], self.row_tokens)
        prompts, answers = zip(*map(self._asks, examples), strict=True)
        return {**batch, "prompts": list(prompts), "answers": list(answers)}

    def _asks(self, example: Conversation) -> Question:
        last = example.last_answer
        return Question(example.messages[:last], str(example.messages[last]["content"]))

    def predict_dataloader(self) -> "DataLoader[Batch]":
        """What the last answer of each held-out conversation is to, as `prompts`."""
        return self.prompts([question.text for question in self.questions()])

    def programs(self) -> list[Question]:
        """What held-out programs are to do, and the tests that they must pass."""
        held_out = [example for example in self.examples()[1] if example.tests]
        return [Question(self._asks(example).text, example.tests) for example in held_out]

    def questions(self) -> list[Question]:
        """What the last answer of each held-out conversation is to, and that answer."""
        return [question for question in map(self._asks, self.examples()[1]) if question.text]

    def answer(self, prediction: Any) -> str:
        """What is written."""
        return str(prediction)
