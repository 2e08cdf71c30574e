"""A file of prompts, answered line by line."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import prompts, writing
from zoo.cli.prompts import Answers, Bad, Prompt
from zoo.errors import GenerationError

if TYPE_CHECKING:
    from zoo.modules.generating import GeneratingModule


@dataclass(frozen=True)
class Todo:
    """A prompt that can be followed."""

    prompt: Prompt
    room: int
    """Tokens that may be written about it."""
    occurrence: int
    """How often the same came before it: it is drawn anew."""


def answer_of(found: Any) -> dict[str, Any]:
    """What `generate` returned of one prompt, as a line says it."""
    return {"text": found} if isinstance(found, str) else {"texts": found}


def answer_all(file: Path, out: Path | None, as_chat: bool, options: dict[str, Any]) -> None:
    """Answers every prompt of a file; what cannot be followed is reported with its line.

    Raises:
        DataError: The file cannot be read, or the answers cannot be written.
        GenerationError: Some prompts could not be followed; the others are answered.
    """
    lines = prompts.read(file)
    with ExitStack() as stack:
        answers = stack.enter_context(Answers(out, file, lines)) if out is not None else None
        done = answers.done if answers else set()
        model = writing.loaded(options, talks=as_chat)
        checked = list(_checked(model, lines, done, as_chat, options))
        bad = [one for one in checked if isinstance(one, Bad)]
        for one in bad:
            print(f"zoo: {file}:{one.line}: {one.reason}", file=sys.stderr)
        todo = [one for one in checked if isinstance(one, Todo)]
        for prompt, answer in _answered(model, todo, as_chat, options, shows=out is not None):
            if answers is not None:
                answers.write(prompt, answer)
            else:
                print(prompts.line_of(prompt, answer), flush=True)
    if out is not None:
        print(f"{out} holds {len(done) + len(todo)} of {len(lines)} answers")
    if bad:
        raise GenerationError(f"{len(bad)} of {len(lines)} prompts in {file} could not be followed")


def _checked(
    model: "GeneratingModule",
    lines: Sequence[Prompt | Bad],
    done: Iterable[int],
    as_chat: bool,
    options: Mapping[str, Any],
) -> Iterator[Todo | Bad]:
    """What is left to do, and what cannot be done."""
    model.generate([], **options)  # refuses options with which no prompt could be followed
    seen = Counter[str]()
    for line in lines:
        if isinstance(line, Bad):
            yield line
            continue
        inputs = line.inputs(as_chat)
        key = json.dumps(inputs)
        seen[key] += 1
        if line.line in done:
            continue
        try:
            yield Todo(line, model.require_room([inputs], **options), seen[key] - 1)
        except GenerationError as error:
            yield Bad(line.line, error.message.replace("prompt 0 is", "the prompt is"))


def _answered(
    model: "GeneratingModule",
    todo: Sequence[Todo],
    as_chat: bool,
    options: Mapping[str, Any],
    shows: bool,
) -> Iterator[tuple[Prompt, dict[str, Any]]]:
    """Each prompt with its answer, in order; a bar tells how far it is."""
    with _bar(len(todo), shows) as advance:
        for batch in _alike(todo):
            seed = options["seed"]
            if seed is not None:
                seed += batch[0].occurrence << 64  # beyond what anyone gives
            choices = {**options, "max_new_tokens": batch[0].room, "seed": seed}
            finished = model.finished([one.prompt.inputs(as_chat) for one in batch], **choices)
            for number, found in _in_order(finished):
                yield batch[number].prompt, answer_of(found)
                advance()


@contextmanager
def _bar(total: int, shows: bool) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, gone at the end; what takes it one further."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not (shows and console.is_terminal):  # of early releases of rich, one that is disabled writes a line
        yield lambda: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("prompts", total=total)
        yield lambda: bar.advance(task)


def _in_order(finished: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Numbers from 0, each as soon as it and all before it are there."""
    early: dict[int, Any] = {}
    following = 0
    for number, found in finished:
        early[number] = found
        while following in early:
            yield following, early.pop(following)
            following += 1


def _alike(todo: Sequence[Todo]) -> Iterator[list[Todo]]:
    """Neighbours to whom the same applies, so that an answer does not depend on who else is asked."""
    for _, alike in groupby(todo, key=lambda one: (one.room, one.occurrence)):
        yield list(alike)
