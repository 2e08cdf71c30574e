"""`zoo chat`: messages in, answers out."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.modules.generating import GeneratingModule

Command = Callable[..., Any]
SavedModel = Callable[..., str]
Talk = Callable[..., Any]


class Keyboard(io.StringIO):
    """What someone types at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def talk(command: Command, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Types some lines and says how it ended."""

    def run(*words: str, typed: list[str], at_a_terminal: bool = False) -> Any:
        kind = Keyboard if at_a_terminal else io.StringIO
        monkeypatch.setattr(sys, "stdin", kind("".join(f"{line}\n" for line in typed)))
        return command("chat", *words)

    return run


def answer(folder: str, prompt: str, **choices: Any) -> str:
    return str(zoo.load(folder).generate(prompt, **{"max_new_tokens": 6, **choices}))


def test_an_answer_follows_what_was_said_before(talk: Talk, chat_model: str) -> None:
    outcome = talk(chat_model, typed=["the cat", "", "the dog"])
    first = answer(chat_model, "<u>the cat\n<a>")
    second = answer(chat_model, f"<u>the cat\n<a>{first}\n<u>the dog\n<a>")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{first}\n{second}\n", "")


def test_a_system_message_stands_before_all_and_flags_reach_generate(talk: Talk, chat_model: str) -> None:
    flags = ("--system", "be brief", "--temperature", "1", "--seed", "3", "--max-new-tokens", "4")
    outcome = talk(chat_model, *flags, typed=["the cat", "/reset", "a"])
    drawn: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_new_tokens": 4}
    texts = [answer(chat_model, f"<s>be brief\n<u>{text}\n<a>", **drawn) for text in ("the cat", "a")]
    assert outcome.out == "".join(f"{text}\n" for text in texts)


def test_reset_forgets_and_quit_ends(talk: Talk, chat_model: str) -> None:
    outcome = talk(chat_model, typed=["the cat", "/reset", "the cat", "/quit", "the dog"])
    first = answer(chat_model, "<u>the cat\n<a>")
    assert (outcome.code, outcome.out) == (0, f"{first}\n{first}\n")


def test_a_terminal_is_told_the_commands_and_asked(talk: Talk, chat_model: str) -> None:
    outcome = talk(chat_model, typed=["/what", "/quit"], at_a_terminal=True)
    commands = "/reset starts anew, /quit ends; Ctrl-C stops an answer"
    assert outcome.out == f"{commands}\n> > "
    assert outcome.err == f"zoo: unknown command `/what`: {commands}\n"


def test_ctrl_c_stops_the_answer_and_not_the_program(
    talk: Talk, chat_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, asked = GeneratingModule.stream, []

    def interrupted(self: GeneratingModule, inputs: Any, **choices: Any) -> Iterator[str]:
        asked.append([message["content"] for message in inputs])
        pieces = stream(self, inputs, **choices)
        if len(asked) == 1:
            raise KeyboardInterrupt
        yield next(pieces)
        if len(asked) == 2:
            raise KeyboardInterrupt
        yield from pieces

    monkeypatch.setattr(GeneratingModule, "stream", interrupted)
    outcome = talk(chat_model, typed=["the sun", "the cat", "the dog"])
    begun = asked[2][1]
    assert asked == [["the sun"], ["the cat"], ["the cat", begun, "the dog"]]
    rest = answer(chat_model, f"<u>the cat\n<a>{begun}\n<u>the dog\n<a>")
    assert (outcome.code, outcome.out) == (0, f" (stopped)\n{begun} (stopped)\n{rest}\n")


def test_ctrl_c_while_nothing_is_answered_ends_nothing(
    talk: Talk, chat_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[Any] = [KeyboardInterrupt, "the cat", EOFError]

    def typed(prompt: str) -> str:
        line = lines.pop(0)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", typed)
    outcome = talk(chat_model, typed=[], at_a_terminal=True)
    assert outcome.code == 0
    assert outcome.out.endswith("\n\n" + answer(chat_model, "<u>the cat\n<a>") + "\n")


def test_the_oldest_messages_are_left_out_where_the_model_is_too_short(talk: Talk, chat_model: str) -> None:
    said = ["the cat sat on the mat", "the dog ran to the sun", "a", "the mat", "the sun", "to"]
    outcome = talk(chat_model, "--system", "be", "--max-new-tokens", "12", typed=said)
    assert outcome.code == 0
    notes = outcome.err.splitlines()
    assert notes
    assert set(notes) <= {
        f"zoo: the oldest {number} messages no longer fit and are left out" for number in (2, 4, 6)
    }
    assert zoo.load(chat_model).spec.max_position_embeddings == 64


def test_a_message_longer_than_the_model_is_refused_and_the_chat_goes_on(talk: Talk, chat_model: str) -> None:
    long = "cat " * 99
    outcome = talk(chat_model, typed=["the cat", long, "the dog"])
    first = answer(chat_model, "<u>the cat\n<a>")
    second = answer(chat_model, f"<u>the cat\n<a>{first}\n<u>the dog\n<a>")
    assert (outcome.code, outcome.out) == (0, f"{first}\n{second}\n")
    length = len(zoo.load(chat_model).tokenizer.encode(f"<u>{long.strip()}\n<a>"))  # type: ignore[union-attr]
    message = f"the model sees at most 64 tokens; the prompt has {length}"
    assert outcome.err == f"zoo: {message}\n  shorten the prompt\n"


def test_a_chat_draws_no_beams_whatever_the_models_file_says(talk: Talk, saved_model: SavedModel) -> None:
    folder = saved_model(saved={"num_beams": 3}, chat_template="<a>")
    assert talk(folder, typed=["a"]).out == answer(folder, "<a>", num_beams=1) + "\n"


def test_an_answer_may_be_as_long_as_the_model_leaves(talk: Talk, saved_model: SavedModel) -> None:
    folder = saved_model(saved={"max_new_tokens": None, "eos_token_id": []}, chat_template="<a>")
    model = zoo.load(folder)
    left = 64 - len(model.tokenizer.encode("<a>"))
    assert talk(folder, typed=["a"]).out == model.generate("<a>", max_new_tokens=left) + "\n"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("decoder", "the model has no chat template\n  `zoo generate` without --chat continues a text"),
        ("encoder", "an encoder writes no text\n  `zoo predict` asks its head"),
    ],
)
def test_a_model_that_cannot_talk_is_refused(
    talk: Talk, saved_model: SavedModel, shape: str, message: str
) -> None:
    outcome = talk(saved_model(shape), typed=["the cat"])
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"zoo: {message}\n")


def test_a_model_without_a_tokenizer_is_refused(talk: Talk, chat_model: str) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (Path(chat_model) / name).unlink()
    outcome = talk(chat_model, typed=["the cat"])
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "zoo: the model has no tokenizer, so it knows ids and no text\n"
