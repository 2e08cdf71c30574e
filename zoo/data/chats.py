"""What data of chats share: messages checked, the template, ids with labels where the assistant speaks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from zoo.data.bad_rows import OnBadRow
from zoo.data.base import TokenizerKind
from zoo.data.examples import ExampleData
from zoo.data.packing import in_rows, laid_out
from zoo.data.reading import Record, require_text
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.tokenizer import PLAIN_TEMPLATE, Message

E = TypeVar("E")
Labelled = tuple[list[int], list[int]]
"""A chat's ids, and the same where they are to be learnt."""


class ChatData(ExampleData[E]):
    """Examples that are made of messages.

    Args:
        source: What is read.
        validation: A source for validation, or the name of a split of `source`; by default some of it is
            held out.
        validation_fraction: Share of `source` that is held out.
        template: A file of Jinja that makes a text of messages; by default the model's own, or a plain one
            where it has none. It is saved with the model.
        tokenizer: What is trained where the model brings none: byte-level BPE, WordPiece or Unigram.
        vocab_size: Of the tokenizer that is trained.
        max_length: Tokens of a chat; of a longer one the end is cut.
        batch_size: Examples of a batch.
        seed: Of the order in which examples are drawn.
        num_workers: Processes that make batches.
        on_bad_row: Whether a row that cannot be used is an error, or is left out and counted.
    """

    def __init__(
        self,
        source: str,
        validation: str | None,
        validation_fraction: float,
        template: str | None,
        tokenizer: TokenizerKind,
        vocab_size: int,
        max_length: int,
        batch_size: int,
        seed: int,
        num_workers: int,
        on_bad_row: OnBadRow,
    ) -> None:
        super().__init__(
            source, validation, validation_fraction, tokenizer, vocab_size, max_length, batch_size, seed,
            num_workers, on_bad_row,
        )  # fmt: skip
        self.template = template

    def setup(self, stage: str) -> None:
        """Reads the examples, and gives the model a tokenizer and a template if it has none.

        Raises:
            DataError: The template cannot be read, or nothing ends what the assistant says.
        """
        super().setup(stage)
        if self.template is not None or not self.tokenizer.chat_templates:
            self._tokenizer = replace(self.tokenizer, chat_template=_read(self.template))
        if self.tokenizer.special_id("eos_token") is None:
            raise DataError("the model's tokenizer has no `eos_token` to end what the assistant says")
        if self.model:
            self.model.adopt_tokenizer(self.tokenizer)

    def labelled(self, messages: Sequence[Message], *, only_last: bool = False) -> Labelled:
        """Ids of a chat, and labels of what the assistant says in it, or says last."""
        ids, is_answer = self.tokenizer.encode_answers(messages, only_last=only_last)
        labels = [token if learnt else IGNORED for token, learnt in zip(ids, is_answer, strict=True)]
        # Nothing stands before a row's first token to tell it from; in packed rows, another chat does.
        return ids[: self.max_length], [IGNORED, *labels[1 : self.max_length]]

    def laid_out(self, chats: Sequence[Labelled], row_tokens: int | None = None) -> Batch:
        """Chats as a batch, one in each row, or packed into rows of so many tokens."""
        ids, labels = zip(*chats, strict=True)
        rows = [[number] for number in range(len(chats))]
        if row_tokens is not None:
            rows = in_rows([[len(text)] for text in ids], [row_tokens])
        padding = self.tokenizer.special_id("pad_token") or 0
        batch = dict(zip(("input_ids", "attention_mask"), laid_out(ids, rows, padding), strict=True))
        return {**batch, "labels": laid_out(labels, rows, IGNORED)[0]}


def _read(template: str | None) -> str:
    if template is None:
        return PLAIN_TEMPLATE
    try:
        return Path(template).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the chat template `{template}` cannot be read: {error}", hint="give a file of Jinja"
        ) from error


def messages_of(record: Record, column: str) -> list[Message]:
    """A column's messages; a text is what a user says.

    Raises:
        DataError: The row has no such column, or what stands there are no messages.
    """
    record.require(column)
    value = record.values[column]
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise DataError(f"`{column}` must be a list of messages, got {value!r:.60}", source=record.place)
    return [_message(message, column, record.place) for message in value]


def _message(value: Any, column: str, place: str) -> Message:
    if not isinstance(value, Mapping) or not {"role", "content"} <= value.keys():
        raise DataError(
            f"a message of `{column}` must have a `role` and a `content`, got {value!r:.60}", source=place
        )
    return {**value, **{name: require_text(value[name], name, place) for name in ("role", "content")}}


def contents(messages: Iterable[Message]) -> list[str]:
    """What is said."""
    return [str(message["content"]) for message in messages]
