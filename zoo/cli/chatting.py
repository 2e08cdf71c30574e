"""`zoo chat`: a conversation with a model, by the checkpoint's chat template."""

import sys
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from zoo.cli import writing
from zoo.cli.options import Options
from zoo.errors import GenerationError, ZooError

if TYPE_CHECKING:
    from zoo.modules.generating import GeneratingModule

ANSWER_TOKENS = 1024
"""Of an answer at most, where neither a flag nor the model's files say, and its length leaves as many."""

COMMANDS = "/reset starts anew, /quit ends; Ctrl-C stops an answer"


class Chat:
    """What was said, and what is answered.

    Args:
        model: What answers.
        system: What stands before all messages.
        choices: As `generate` takes them.
    """

    def __init__(self, model: "GeneratingModule", system: str | None, choices: dict[str, Any]) -> None:
        self._model = model
        self._choices = {**choices, "num_beams": 1, "num_return_sequences": 1}
        self._system = [{"role": "system", "content": system}] if system is not None else []
        self._said: list[dict[str, str]] = []
        saved = model.generation_config
        if not (saved.get("max_new_tokens") or saved.get("max_length")):
            model.generation_config = {**saved, "max_new_tokens": ANSWER_TOKENS}

    def reset(self) -> None:
        """Forgets all messages."""
        self._said = []

    def ask(self, text: str) -> int:
        """Adds a message, and forgets the oldest ones where the model has no room for all and an answer.

        Returns:
            How many were forgotten.

        Raises:
            GenerationError: The message alone is too long, or the template refuses it; it is not added.
        """
        said = [*self._said, {"role": "user", "content": text}]
        left = self._model.require_room([[*self._system, said[-1]]], **self._choices)
        needed = self._choices["max_new_tokens"] or max(1, left // 2)
        while len(said) > 1 and not self._fits(said, needed):
            said = said[2:]  # a question goes with its answer
        num_forgotten = len(self._said) + 1 - len(said)
        self._said = said
        return num_forgotten

    def answer(self) -> Generator[str, None, None]:
        """The answer, piece by piece; what was said of it is kept where it is cut short."""
        pieces: list[str] = []
        try:
            for piece in self._model.stream([*self._system, *self._said], **self._choices):
                pieces.append(piece)
                yield piece
        finally:
            if pieces:
                self._said.append({"role": "assistant", "content": "".join(pieces)})
            else:
                self._said.pop()

    def _fits(self, said: list[dict[str, str]], num_new: int) -> bool:
        try:
            choices = {**self._choices, "max_new_tokens": num_new}
            self._model.require_room([[*self._system, *said]], **choices)
        except GenerationError:
            return False
        return True


def run(verb: str, arguments: list[str]) -> None:
    """Asks for messages and answers them until there are no more."""
    parser = Options(prog="zoo chat", description=f"Talk to a model. {COMMANDS}.")
    writing.add_options(parser)
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before all messages")
    options = vars(parser.parse_args(arguments))
    system = options.pop("system")
    chat = Chat(writing.loaded(options, talks=True), system, options)
    if sys.stdin.isatty():
        print(COMMANDS)
    for text in _messages():
        if text == "/quit":
            return
        if text == "/reset":
            chat.reset()
        elif text.startswith("/"):
            print(f"zoo: unknown command `{text}`: {COMMANDS}", file=sys.stderr)
        else:
            _reply(chat, text)


def _reply(chat: Chat, text: str) -> None:
    try:
        if num_forgotten := chat.ask(text):
            print(f"zoo: the oldest {num_forgotten} messages no longer fit and are left out", file=sys.stderr)
        with closing(chat.answer()) as pieces:
            for piece in pieces:
                print(piece, end="", flush=True)
    except ZooError as error:
        print(f"zoo: {error}", file=sys.stderr)
        return
    except KeyboardInterrupt:
        print(" (stopped)", end="")
    print()


def _messages() -> Iterator[str]:
    """Lines that say something; of a terminal with a prompt, its history and its editing."""
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        with suppress(ImportError):  # not everywhere
            import readline  # noqa: F401 - makes `input` edit
    while True:
        try:
            text = input("> " if is_terminal else "").strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            if not is_terminal:
                raise
            print()
            continue
        if text:
            yield text
