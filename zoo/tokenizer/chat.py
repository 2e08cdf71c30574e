"""Messages to the text that a model was taught to answer, by the checkpoint's own template.

The templates are Jinja, as in transformers, and come from strangers: they run in a sandbox, on plain values.
"""

import json
from collections.abc import Mapping, Sequence
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


class _Generation(Extension):
    """`{% generation %}` marks what the assistant said, for training; a rendering shows it as it stands."""

    tags = {"generation"}  # noqa: RUF012 - as the parent says

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


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
