"""Pairs of answers to a chat of which one is better."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind
from zoo.data.caching import content_hash
from zoo.data.chats import ChatData, contents, messages_of
from zoo.data.examples import column_of
from zoo.data.loading import HeldOut
from zoo.data.measures import Measure
from zoo.data.reading import Record, read_records, require_text
from zoo.data.samples import write_records
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.tokenizer import Message

PROMPTS = ("prompt", "messages", "question", "instruction")


class Pair(NamedTuple):
    """A chat, and two answers to it."""

    prompt: list[Message]
    chosen: str
    rejected: str
    number: int
    """Its place among all that were read."""


class Preferences(ChatData[Pair]):
    """Chats with a better and a worse answer, for heads that learn from pairs.

    A row has a prompt, which is a text or messages, and the answers `chosen` and `rejected`: texts, or
    messages of which the last is the answer. Where it has no prompt, the other messages of `chosen` are it.

    Args:
        source: A jsonl(.gz) file, a folder of such, or a data set's `owner/name[@revision][#configuration]`;
            either may be followed by `:split`.
        prompt: Where a row's prompt stands, by default in `prompt`, `messages`, `question` or `instruction`.
        chosen: Where the better answer stands.
        rejected: Where the worse one stands.
        validation: A source for validation, or the name of a split of `source`; by default some of `source`
            is held out.
        validation_fraction: Share of `source` that is held out.
        template: A file of Jinja that makes a text of messages; by default the model's own, or a plain one
            where it has none. It is saved with the model.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a prompt with an answer; of more the end is cut, and a pair of which one answer
            is thereby lost does not count.
        batch_size: Pairs of a batch.
        seed: Of the order in which pairs are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    noun = "pair"
    tasks = frozenset({"preference", "reward"})
    measure = Measure(name="accuracy", subject="pairs it never saw", unit="told right (more is better)")

    def __init__(
        self,
        source: str,
        prompt: str | None = None,
        chosen: str = "chosen",
        rejected: str = "rejected",
        validation: str | None = None,
        validation_fraction: float = 0.1,
        template: str | None = None,
        tokenizer: TokenizerKind = "bpe",
        vocab_size: int = 8192,
        max_length: int = 1024,
        batch_size: int = 8,
        seed: int = 0,
        num_workers: int = 0,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(
            source, validation, validation_fraction, template, tokenizer, vocab_size, max_length, batch_size,
            seed, num_workers, on_bad_row,
        )  # fmt: skip
        self.prompt, self.chosen, self.rejected = prompt, chosen, rejected

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small one, for `zoo.testing`."""
        return cls(source=write_records(folder, _examples()), vocab_size=300, max_length=48, batch_size=4)

    def read_source(self, source: str) -> list[Pair]:
        """The pairs of one source."""
        found = []
        for record in read_records(source, [], self.bad_rows):
            with self.bad_rows.row():
                found.append(self.pair(record))
        return found

    def pair(self, record: Record) -> Pair:
        """A row's prompt and answers.

        Raises:
            DataError: It lacks one, or both answers are the same.
        """
        chosen, rejected = (self._answer(record, column) for column in (self.chosen, self.rejected))
        if chosen == rejected:
            raise DataError(f"`{self.chosen}` and `{self.rejected}` are the same", source=record.place)
        return Pair(self._prompt(record), chosen, rejected, number=-1)

    def _answer(self, record: Record, column: str) -> str:
        record.require(column)
        value = record.values[column]
        if isinstance(value, list):
            value = messages_of(record, column)[-1]["content"]
        return require_text(value, column, record.place)

    def _prompt(self, record: Record) -> list[Message]:
        column = column_of(record.values, self.prompt, PROMPTS, "")
        if column:
            return messages_of(record, column)
        value = record.values[self.chosen]
        if not isinstance(value, list) or len(value) < 2:
            raise DataError(
                f"a row has no prompt, and `{self.chosen}` holds none",
                source=record.place,
                hint=f"name its column by data.prompt; it has: {', '.join(record.values)}",
            )
        return messages_of(record, self.chosen)[:-1]

    def read(self) -> tuple[list[Pair], list[Pair]]:
        """Reads the source, holds some of it out, and numbers the pairs."""
        parts = super().read()
        numbers = iter(range(sum(map(len, parts))))
        training, held_out = ([pair._replace(number=next(numbers)) for pair in part] for part in parts)
        return training, held_out

    def content(self, example: Pair) -> str:
        """What is said first: pairs of chats that begin alike are on one side."""
        return str(example.prompt[0]["content"])

    def texts(self, example: Pair) -> list[str]:
        """What is said."""
        return [*contents(example.prompt), example.chosen, example.rejected]

    @property
    def all_pairs(self) -> list[Pair]:
        """Those to train on and those held out, by number."""
        training, held_out = self.examples()
        return [*training, *held_out]

    @property
    def fingerprint(self) -> str:
        """What tells these pairs, as the model reads them, from others."""
        template = self.tokenizer.chat_templates["default"]
        texts = (text for pair in self.all_pairs for text in self.texts(pair))
        return content_hash(texts, self.tokenizer.backend.to_str(), template, str(self.max_length))

    def numbered(self) -> HeldOut:
        """All pairs in order, for what is computed of each once."""
        return self.loader(self.all_pairs, self.collate, is_training=False)

    def collate(self, examples: Sequence[Pair]) -> Batch:
        """Every better answer under its prompt, then every worse one; labels are the answers' tokens alone.

        A head that asks for a third has another pair's better answer under each prompt. `numbers` (pairs) are
        those of the pairs.
        """
        answers = [[pair.chosen for pair in examples], [pair.rejected for pair in examples]]
        if self._num_answers() == 3:
            every = self.all_pairs
            answers.append([every[(pair.number + 1) % len(every)].chosen for pair in examples])
        chats = [
            [*pair.prompt, {"role": "assistant", "content": answer}]
            for column in answers
            for pair, answer in zip(examples, column, strict=True)
        ]
        batch = self.laid_out([self.labelled(chat, only_last=True) for chat in chats])
        return {**batch, "numbers": torch.tensor([pair.number for pair in examples])}

    def _num_answers(self) -> int:
        head: Any = self.model and self.model.head_specs[self.model.head_name(self.head)]
        return int(getattr(head, "answers", 2))


def _examples() -> Iterator[dict[str, Any]]:
    for number in range(80):
        yield {"prompt": f"say {number}", "chosen": f"it is {number}", "rejected": "no"}
