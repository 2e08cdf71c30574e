"""What a type annotation says of a recipe's value, as the parser reads it."""

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor

from zoo.cli import recipes
from zoo.specs import HubModel, Spec

# Classes that a recipe gives by a value, not by a `class_path`.
_NUMBERS_AND_TEXTS = (str, bytes, int, float, complex, type(None), Enum, PurePath, timedelta, Tensor)
_VALUES = (*_NUMBERS_AND_TEXTS, list, dict, tuple, set)


@dataclass(frozen=True)
class Wanted:
    """What a type says of a `class_path`: the classes that fit, and how many arguments are given later."""

    classes: tuple[type, ...]
    num_given: int = 0

    @classmethod
    def of(cls, hint: Any) -> "Wanted":
        """What this type says."""
        classes: list[type] = []
        num_given = 0
        for kind in alternatives(hint):
            if typing.get_origin(kind) is collections.abc.Callable:
                given, returned = typing.get_args(kind) or ((), Any)
                classes += cls.of(returned).classes
                num_given = len(given) if isinstance(given, list) else 0
            elif isinstance(kind, type) and typing.get_origin(kind) is None and not issubclass(kind, _VALUES):
                classes.append(kind)
        return cls(tuple(classes), num_given)

    def __str__(self) -> str:
        return " or ".join(kind.__name__ for kind in self.classes if kind is not HubModel)


def accepts(hint: Any, value: Any) -> bool:
    """Whether a value is of a type, by the parser's own rules."""
    if hint in (Any, inspect.Parameter.empty):
        return True
    if value is None:  # the parser passes over it, whatever the type
        return hint is types.NoneType or types.NoneType in typing.get_args(hint)
    parser = ArgumentParser(exit_on_error=False, parser_mode=recipes.MODE)
    try:
        parser.add_argument("--it", type=hint)
    except ValueError:
        return True  # a type that the parser does not know is not ours to judge
    try:
        parser.parse_object({"it": value})
    except (ArgumentError, TypeError, ValueError):
        return False
    return True


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union, null left out."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if is_union else (hint,)
    return tuple(kind for kind in kinds if kind is not types.NoneType)


def item_hint(hint: Any) -> Any:
    """The type of a list's items, where they are classes."""
    return _inner_hint(hint, (list, Sequence, collections.abc.Iterable), 0)


def entry_hint(hint: Any) -> Any:
    """The type of a mapping's values, where they are classes."""
    return _inner_hint(hint, (dict, Mapping), 1)


def _inner_hint(hint: Any, origins: tuple[Any, ...], index: int) -> Any:
    arguments = [typing.get_args(kind) for kind in alternatives(hint) if typing.get_origin(kind) in origins]
    inner = [kinds[index] for kinds in arguments if len(kinds) > index]
    return next((kind for kind in inner if Wanted.of(kind).classes), None)


def is_group(kind: type) -> bool:
    """Whether it is a dataclass that a recipe writes as a plain mapping."""
    return dataclasses.is_dataclass(kind) and not issubclass(kind, Spec) and kind is not HubModel


def is_class_path(value: str, wanted: Wanted, hint: Any) -> bool:
    """Whether a text stands for a class without arguments."""
    if str in alternatives(hint) or not wanted.classes:
        return False
    return ("." in value and "/" not in value) or value in bare_names(wanted)


def described(hint: Any) -> str:
    """The type in words."""
    words: list[str] = []
    for kind in alternatives(hint):
        if typing.get_origin(kind) is typing.Literal:
            words += [str(choice) for choice in typing.get_args(kind)]
        elif kind is HubModel:
            words.append("a Hub id or folder")
        elif isinstance(kind, type) and typing.get_origin(kind) is None:
            words += [] if kind is Tensor else [kind.__name__]
        else:
            words.append(str(kind).replace("typing.", "").replace("collections.abc.", ""))
    if types.NoneType in typing.get_args(hint):
        words.append("null")
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)} or {last}" if others else last


def choices(hint: Any) -> list[str]:
    """The texts of a Literal."""
    literals = [kind for kind in alternatives(hint) if typing.get_origin(kind) is typing.Literal]
    return [str(choice) for kind in literals for choice in typing.get_args(kind)]


def bare_names(wanted: Wanted) -> dict[str, type]:
    """Classes that the parser, too, finds by their names alone: those that are imported already."""
    found: dict[str, type] = {}
    left = list(wanted.classes)
    while left:
        kind = left.pop()
        found[kind.__name__] = kind
        left += type.__subclasses__(kind)
    return found
