"""`zoo schema`: recipes as a JSON schema, by which editors complete keys and show what they mean.

Made from the signatures of what is installed. It is meant to help, not to judge: `zoo check` knows more.
"""

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import lightning as L

from zoo import registry
from zoo.cli.hints import alternatives
from zoo.cli.options import Options
from zoo.cli.training import TOP_KEYS
from zoo.specs import HubModel, Spec
from zoo.words import meanings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ANY: dict[str, Any] = {}
_PLAIN: Mapping[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
Schema = dict[str, Any]


def run(verb: str, arguments: list[str]) -> None:
    """Prints the schema."""
    description = "Recipes as a JSON schema, for editors: zoo schema > recipe.schema.json"
    Options(prog="zoo schema", description=description).parse_args(arguments)
    print(json.dumps(schema(), indent=1))


def schema() -> Schema:
    """The schema of a recipe, with what is installed as its classes."""
    made = _Classes()
    known: Mapping[str, Schema] = {
        "base": {"type": ["string", "array"], "description": "Recipes to start from, by name or path."},
        "model": made.node("zoo.modules"),
        "data": made.node("zoo.data"),
        "trainer": made.trainer(),
        "seed_everything": {"type": ["boolean", "integer"]},
    }
    return {
        "$schema": DIALECT,
        "title": "A recipe of Lightning Zoo",
        "type": "object",
        "properties": {key: known.get(key, _ANY) for key in sorted(TOP_KEYS)},
        "additionalProperties": False,
        "$defs": made.definitions,
    }


class _Classes:
    """Definitions of classes, each made once."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def trainer(self) -> Schema:
        """Lightning's Trainer, whose callbacks may be the zoo's."""
        found = self._arguments(L.Trainer)
        found["properties"]["callbacks"] = {"type": ["array", "object"], "items": self.node("zoo.callbacks")}
        return found

    def node(self, *groups: str) -> Schema:
        """One of the classes of some groups by its `class_path`; any other class is not judged."""
        return self._choice(
            {f"{group}.{name}": kind for group in groups for name, kind in registry.usable(group).items()}
        )

    def _choice(self, found: Mapping[str, Any]) -> Schema:
        rules = [
            {
                "if": {"properties": {"class_path": {"const": path}}, "required": ["class_path"]},
                "then": {"properties": {"init_args": self._reference(path, kind)}},
            }
            for path, kind in found.items()
        ]
        paths = {"anyOf": [{"enum": list(found)}, {"type": "string"}]}
        return {**_any_class(), "properties": {**_NODE, "class_path": paths}, "allOf": rules}

    def _reference(self, path: str, kind: Any) -> Schema:
        if path not in self.definitions:
            self.definitions[path] = {}  # a class may name itself
            self.definitions[path] = self._arguments(kind)
        return {"$ref": f"#/$defs/{path}"}

    def _arguments(self, kind: Any) -> Schema:
        """What a class is called with. Nothing is required: a recipe may be laid over another."""
        told, hints = _told(kind), _hints(kind)
        properties: dict[str, Schema] = {}
        is_open = False
        for name, parameter in inspect.signature(kind).parameters.items():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                is_open = True
                continue
            properties[name] = self._typed(hints.get(name, Any), parameter.default)
            if name in told:
                properties[name] = {**properties[name], "description": told[name]}
        # `key+` appends to a list of a base.
        found: Schema = {"type": "object", "properties": properties, "patternProperties": {r"\+$": _ANY}}
        return found if is_open else {**found, "additionalProperties": False}

    def _typed(self, hint: Any, default: Any) -> Schema:
        options = [self._one(kind) for kind in alternatives(hint)]
        if _ANY in options or not options:
            return {}
        if types.NoneType in typing.get_args(hint) or default is None:
            options.append({"type": "null"})
        found = options[0] if len(options) == 1 else {"anyOf": options}
        is_shown = default is None or isinstance(default, (bool, int, float, str))
        return {**found, "default": default} if is_shown and default is not inspect.Parameter.empty else found

    def _one(self, kind: Any) -> Schema:
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if kind in _PLAIN:
            return {"type": _PLAIN[kind]}
        if origin is typing.Literal:
            return {"enum": list(inner)}
        if kind is HubModel:
            return {"type": "string", "description": "A Hub id `owner/name[@revision]`, or a folder."}
        if origin in (list, Sequence, Iterable):
            return {"type": "array", "items": self._typed(inner[0], inspect.Parameter.empty) if inner else {}}
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": self._typed(inner[1], inspect.Parameter.empty)}
        if origin is Callable:
            return _any_class()
        if isinstance(kind, type) and issubclass(kind, Spec | L.LightningDataModule):
            return self._choice(_registered(kind))
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self._reference(registry.path_of(kind), kind)
        return _ANY


_NODE: Schema = {
    "class_path": {"type": "string"},
    "init_args": {"type": "object"},
    "dict_kwargs": {"type": "object"},
}


def _any_class() -> Schema:
    return {"type": ["object", "string"], "properties": _NODE, "additionalProperties": False}


def _registered(base: type) -> dict[str, type]:
    """Everything that is registered and of a kind, by its path."""
    return {
        f"{group}.{name}": kind
        for group in (group for group in registry.GROUPS if group != "zoo.recipes")
        for name, kind in sorted(registry.usable(group).items())
        if isinstance(kind, type) and issubclass(kind, base)
    }


def _told(kind: Any) -> Mapping[str, str]:
    """What each argument means: the texts below fields, or the docstring's `Args`."""
    if dataclasses.is_dataclass(kind):
        return meanings(kind)  # type: ignore[arg-type]
    _, _, arguments = (inspect.getdoc(kind) or "").partition("Args:")
    return {name: " ".join(text.split()) for name, text in _ARGUMENT.findall(arguments)}


_ARGUMENT = re.compile(r"^ {4}(\w+): (.+(?:\n {6,}.+)*)", re.MULTILINE)


def _hints(kind: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind if dataclasses.is_dataclass(kind) else kind.__init__)
    except (NameError, TypeError, AttributeError):  # an annotation that is not there at run time
        return {}
