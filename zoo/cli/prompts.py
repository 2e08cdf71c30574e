"""Files of prompts, and of what was written about them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from zoo.errors import DataError

LINE = "line"
"""What tells, in an answer, which line of the file it is about; from 1."""

_BEGINNING = f'{{"{LINE}": '.encode()
_ASKED = {"prompt", "messages"}


@dataclass(frozen=True)
class Prompt:
    """One line of a file.

    Of a .jsonl its object, with a `prompt`, or `messages` for a chat; of any other its text, as `prompt`.
    """

    line: int
    record: Mapping[str, Any]

    def inputs(self, as_chat: bool = False) -> Any:
        """What `generate` takes; a prompt may be put into the chat template."""
        prompt = self.record.get("prompt")
        if prompt is None:
            return self.record["messages"]
        return [{"role": "user", "content": prompt}] if as_chat else prompt


@dataclass(frozen=True)
class Bad:
    """A line that cannot be followed, and why."""

    line: int
    reason: str


def read(path: Path) -> list[Prompt | Bad]:
    """Every line of a file of prompts.

    Raises:
        DataError: The file cannot be read, or is empty.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read: it is not UTF-8") from error
    if not text:
        raise DataError(f"{path} holds no prompt")
    kind = _object if path.suffix == ".jsonl" else _text
    # Not `splitlines`: JSON may hold line ends of other kinds.
    return [kind(number, line) for number, line in enumerate(text.removesuffix("\n").split("\n"), 1)]


def _text(number: int, line: str) -> Prompt | Bad:
    return Prompt(number, {"prompt": line}) if line else Bad(number, "the prompt is empty")


def _object(number: int, line: str) -> Prompt | Bad:
    try:
        record = json.loads(line)
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Bad(number, "half of a surrogate pair, which is no text")
    except ValueError:
        return Bad(number, "no JSON")
    if not isinstance(record, dict):
        return Bad(number, "no JSON object")
    prompt, messages = record.get("prompt"), record.get("messages")
    if isinstance(prompt, str):
        return Prompt(number, record) if prompt else Bad(number, "the prompt is empty")
    if prompt is None and isinstance(messages, list) and all(isinstance(one, dict) for one in messages):
        return Prompt(number, record)
    return Bad(number, "neither a text as `prompt` nor a list of objects as `messages`")


def line_of(prompt: Prompt, answer: Mapping[str, Any]) -> str:
    """A prompt and its answer as JSON."""
    kept = {key: value for key, value in prompt.record.items() if key != LINE}
    return json.dumps({LINE: prompt.line, **kept, **answer}, ensure_ascii=False)


class Answers:
    """A .jsonl file that grows by what is written; what an interrupted run left is kept and gone on with.

    Args:
        path: Where.
        file: Where the prompts are from.
        prompts: What may be answered.

    Raises:
        DataError: The file cannot be written, or answers other prompts.
    """

    def __init__(self, path: Path, file: Path, prompts: Sequence[Prompt | Bad]) -> None:
        records = {prompt.line: prompt.record for prompt in prompts if isinstance(prompt, Prompt)}
        try:
            with path.open("a+b") as left:
                left.seek(0)
                whole = left.read()
                end = whole.rfind(b"\n") + 1
                answered = [_answered(line, records) for line in whole[:end].split(b"\n")[:-1]]
                if not _may_begin(whole[end:]):
                    answered.append(None)
                if None not in answered:
                    left.truncate(end)
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}") from error
        if None in answered:
            raise DataError(
                f"{path}:{answered.index(None) + 1} answers no line of {file}",
                hint="remove it, or name another file with --out",
            )
        self.done = {line for line in answered if line is not None}
        """Lines of the prompts that are answered."""
        self._file = path.open("ab")

    def write(self, prompt: Prompt, answer: Mapping[str, Any]) -> None:
        """Adds a line, whole before this returns."""
        self._file.write(line_of(prompt, answer).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _may_begin(cut: bytes) -> bool:
    """Whether what has no end is, or may be, a line that was cut off."""
    return cut[: len(_BEGINNING)] == _BEGINNING[: len(cut)]


def _answered(line: bytes, records: Mapping[int, Mapping[str, Any]]) -> int | None:
    """Which prompt a line answers, if it does."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    number = found.get(LINE) if isinstance(found, dict) else None
    if not isinstance(number, int) or number not in records:
        return None
    record = records[number]
    return number if all(found.get(key) == record[key] for key in _ASKED & record.keys()) else None
