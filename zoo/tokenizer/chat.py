"""Messages to the text that a model was taught to answer, by the checkpoint's own template.

The templates are Jinja, as in transformers, and come from strangers: they run in a sandbox, on plain values.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from zoo.errors import CheckpointError, GenerationError

Message = Mapping[str, Any]
"""`role`, `content` and whatever else the template reads."""


Spans = list[tuple[int, int]]
"""Where pieces of a text begin and end, in characters."""

PLAIN = """\
{{- bos_token or '' }}
{%- for message in messages %}
    {{- '<|' + message.role + '|>\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ message.content + eos_token }}{% endgeneration %}{{ '\n' }}
    {%- else %}
        {{- message.content + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"""
"""A template for models that bring none: roles in words, so that no token is new."""

# No message can spell these: they are drawn anew in each process.
_BEGIN, _END = (f"{{{secrets.token_hex(16)}}}" for _ in range(2))


class _Generation(Extension):
    """`{% generation %}` marks what the assistant says, for training."""

    tags = {"generation"}  # noqa: RUF012 - as the parent says

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        inside = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], inside).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return f"{_BEGIN}{caller()}{_END}"


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes what HTML would.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


@lru_cache(maxsize=16)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    try:
        return environment.from_string(template)
    except TemplateSyntaxError as error:
        raise CheckpointError(
            f"the chat template cannot be read: {error.message}, in its line {error.lineno}"
        ) from error


def render(template: str, messages: Sequence[Message], **values: Any) -> str:
    """What a template makes of messages, as transformers' `apply_chat_template` does.

    Args:
        template: Jinja.
        messages: In order; entries that are None are left out.
        values: What the template may read besides, of plain JSON.

    Raises:
        CheckpointError: The template is no Jinja.
        GenerationError: There are no messages, they are not plain, or the template refuses them.
    """
    return _marked(template, messages, values).replace(_BEGIN, "").replace(_END, "")


def with_answers(template: str, messages: Sequence[Message], **values: Any) -> tuple[str, Spans]:
    """The same, and where in it the assistant speaks.

    The template's `{% generation %}` tells. Where it has none, an answer is what a rendering up to it adds to
    one of the messages before with `add_generation_prompt`; an answer before all questions is not counted.

    Raises:
        CheckpointError: The template is no Jinja.
        GenerationError: As `render` does; or neither way tells answers apart.
    """
    marked = _marked(template, messages, values)
    text, spans = "", []
    for number, piece in enumerate(re.split(f"{_BEGIN}|{_END}", marked)):
        if number % 2:
            spans.append((len(text), len(text) + len(piece)))
        text += piece
    return text, spans or _added(text, template, messages, values)


def _added(text: str, template: str, messages: Sequence[Message], values: Mapping[str, Any]) -> Spans:
    spans = []
    for number, message in enumerate(messages):
        if number and message["role"] == "assistant":
            asked = render(template, messages[:number], **{**values, "add_generation_prompt": True})
            answered = render(template, messages[: number + 1], **values)
            if not (text.startswith(answered) and answered.startswith(asked)):
                raise GenerationError(
                    "the chat template does not tell the assistant's words apart: what it makes of the "
                    f"first {number + 1} messages is not how it begins all {len(messages)}",
                    hint="give a template that marks them by {% generation %} … {% endgeneration %}",
                )
            spans.append((len(asked), len(answered)))
    return spans


def _marked(template: str, messages: Sequence[Message], values: Mapping[str, Any]) -> str:
    if not messages:
        raise GenerationError("a chat needs at least one message")
    kept = [{key: value for key, value in message.items() if value is not None} for message in messages]
    try:
        plain = json.loads(json.dumps({**values, "messages": kept}))
    except TypeError as error:
        raise GenerationError(f"a chat's messages must be plain JSON values: {error}") from error
    try:
        return _compiled(template).render(plain)
    except (TemplateError, TypeError) as error:  # the second is what most templates run into
        raise GenerationError(f"the chat template refuses the messages: {error}") from error


def chosen(templates: Mapping[str, str], name: str | None, has_tools: bool) -> str:
    """The template of this name, else the one for tools where there are some, else the default.

    Raises:
        GenerationError: There is none.
    """
    if not templates:
        raise GenerationError(
            "the model's tokenizer has no chat template", hint="`zoo generate` continues a text"
        )
    wanted = [name] if name is not None else ["tool_use", "default"] if has_tools else ["default"]
    for candidate in wanted:
        if candidate in templates:
            return templates[candidate]
    known = ", ".join(sorted(templates))
    raise GenerationError(f"the model has no chat template `{wanted[-1]}`", hint=f"its templates: {known}")


def named(value: Any) -> dict[str, str]:
    """Templates by name, of what tokenizer_config.json says: one, or a list of several."""
    if isinstance(value, str):
        return {"default": value}
    return {entry["name"]: entry["template"] for entry in value or []}
