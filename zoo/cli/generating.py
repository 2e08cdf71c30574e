"""`zoo generate`: a model continues, or answers, a text or a file of them."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import answering, writing
from zoo.cli.options import Options

if TYPE_CHECKING:
    from zoo.modules.generating import GeneratingModule


def run(verb: str, arguments: list[str]) -> None:
    """Writes about one prompt, or about each of a file."""
    parser = Options(
        prog="zoo generate",
        description="Continue a text, or answer one. A terminal shows it as it comes; else it is JSON, one "
        "object a line. What is not given is as generation_config.json says.",
    )
    writing.add_options(parser)
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="the text to continue")
    parser.add_argument("--chat", action="store_true", help="put the prompt into the model's chat template")
    writing.add_beam_options(parser)
    add = parser.add_argument_group("many prompts").add_argument
    add("--file", type=Path, help="one a line; of a .jsonl, each object's `prompt`, or its `messages`")
    add("--out", type=Path, help="a .jsonl to write to; what an interrupted run left is gone on with")
    add("--batch-size", type=int, metavar="N", help="texts that are written together; 32 by default")
    options = vars(parser.parse_args(arguments))
    prompt, as_chat, file, out = (options.pop(key) for key in ("prompt", "chat", "file", "out"))
    if (prompt is None) == (file is None):
        parser.error("it takes either PROMPT or --file")
    if out is not None and file is None:
        parser.error("--out goes with --file")
    if file is None:
        _write(prompt, as_chat, options)
    else:
        answering.answer_all(file, out, as_chat, options)


def _is_one(model: "GeneratingModule", options: dict[str, Any]) -> bool:
    """Whether one text is written, token by token."""
    from zoo.generation import Settings

    given = {name: options[name] for name in ("temperature", "num_beams", "num_return_sequences")}
    settings = Settings.of(model.generation_config, **given)
    return settings.num_beams == 1 and settings.num_return_sequences == 1


def _write(prompt: str, as_chat: bool, options: dict[str, Any]) -> None:
    model = writing.loaded(options, talks=as_chat)
    inputs = [{"role": "user", "content": prompt}] if as_chat else prompt
    before = prompt if model.shape == "decoder" and not as_chat else ""
    if not sys.stdout.isatty():
        answer = answering.answer_of(model.generate(inputs, **options))
        print(json.dumps({"prompt": prompt, **answer}, ensure_ascii=False))
    elif not _is_one(model, options):
        found = model.generate(inputs, **options)
        print(*(before + text for text in ([found] if isinstance(found, str) else found)), sep="\n\n")
    else:
        pieces = model.stream(inputs, **options)
        print(before, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
