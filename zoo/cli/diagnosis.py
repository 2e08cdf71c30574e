"""What is wrong with a recipe that jsonargparse refused, and on which line.

jsonargparse is the judge; its messages name the last part of a key and no line. Here the recipe is walked
with the same types, from the outside in, until the first key that does not hold by itself; then each class is
called as the command would, from the inside out, until the first that refuses its arguments.
"""

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
from jsonargparse import ArgumentError, ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException

from zoo import registry
from zoo.cli import recipes
from zoo.cli.hints import (
    Wanted,
    accepts,
    bare_names,
    choices,
    described,
    entry_hint,
    is_class_path,
    is_group,
    item_hint,
)
from zoo.cli.recipes import NODE_KEYS, Key, Recipe, dotted
from zoo.errors import RecipeError, ZooError, did_you_mean, nearest
from zoo.specs import HubModel

CLASS_PATH = "did you mean `class_path`?"


@dataclass
class Call:
    """A class and its arguments, each of which holds by itself."""

    called: type
    value: Mapping[str, Any]

    def refusal(self) -> ZooError | None:
        """What the class says against them."""
        parser = ArgumentParser(exit_on_error=False, parser_mode=recipes.MODE)
        parser.add_argument("--it", type=self.called)  # the class alone: a union would hide what it says
        try:
            parser.instantiate(parser.parse_object({"it": dict(self.value)}))
        except Exception as error:
            told: BaseException | None = error
            while told is not None and not isinstance(told, ZooError | MisconfigurationException):
                told = told.__cause__
            if isinstance(told, ZooError):
                return told
            if told is not None or isinstance(error, ValueError):
                name = self.value.get("class_path", self.called.__name__)
                return RecipeError(f"{name} refuses its arguments: {' '.join(str(told or error).split())}")
            if not isinstance(error, ArgumentError):  # that one is for the parser's own words
                raise
        return None


Found = tuple[ZooError | Call, Key]
"""A fault, or a class to be called once there is none, and where it stands."""


def diagnose(recipe: Recipe, top_keys: set[str]) -> ZooError | None:
    """The first fault of a recipe, with its place; None where none is found.

    Args:
        recipe: All layers merged, flags included.
        top_keys: Keys that may stand at the top.
    """
    calls: list[tuple[Call, Key]] = []
    for found, key in _faults(recipe.values, top_keys):
        if isinstance(found, ZooError):
            return _placed(found, key, recipe)
        calls.append((found, key))
    refusals = ((call.refusal(), key) for call, key in calls)
    return next((_placed(error, key, recipe) for error, key in refusals if error is not None), None)


def _placed(error: ZooError, key: Key, recipe: Recipe) -> ZooError:
    if error.at is not None:  # a class names what it refuses by its own argument
        own = error.at.removeprefix(f"{key[-1]}.").split(".") if key else error.at.split(".")
        key = (*key, "init_args", *own) if recipe.has((*key, "class_path")) else (*key, *own)
    error.at, error.source = dotted(key) or None, error.source or recipe.place(key)
    return error


def is_overlooked(values: Mapping[str, Any]) -> bool:
    """Whether a recipe holds what the parser passes over: null for any type, a trainer of no settings."""
    return not isinstance(values.get("trainer", {}), Mapping) or _holds_null(values)


def _holds_null(value: Any) -> bool:
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return value is None or any(map(_holds_null, items))


def _faults(values: Mapping[str, Any], top_keys: set[str]) -> Iterator[Found]:
    if not values:
        hint = "--config takes a file or a packaged name; zoo list recipes shows those"
        yield RecipeError("no recipe is given", hint=hint), ()
    for name in values:
        if name.removesuffix("+") not in top_keys:
            yield RecipeError(f"unknown key `{name}` in a recipe", hint=did_you_mean(name, top_keys)), (name,)
    for name, base in (("model", L.LightningModule), ("data", L.LightningDataModule)):
        if values.get(name) is None:
            yield RecipeError(f"the recipe names no `{name}`", hint=f"add `{name}:` with a class_path"), ()
        else:
            yield from _value_faults(base, values[name], (name,), f"`{name}`")
    if "trainer" in values:
        if isinstance(values["trainer"], Mapping):
            yield from _argument_faults(L.Trainer, values["trainer"], ("trainer",), "the Trainer")
        else:
            yield RecipeError(f"`trainer` must be a mapping, got {values['trainer']!r}"), ("trainer",)
    yield from _value_faults(
        bool | int, values.get("seed_everything", True), ("seed_everything",), "`seed_everything`"
    )
    yield from _value_faults(str | None, values.get("ckpt_path"), ("ckpt_path",), "`ckpt_path`")


def _value_faults(hint: Any, value: Any, key: Key, subject: str) -> Iterator[Found]:
    wanted, items, entries = Wanted.of(hint), item_hint(hint), entry_hint(hint)
    nested = next((kind for kind in wanted.classes if is_group(kind)), None)
    if isinstance(value, str) and is_class_path(value, wanted, hint):
        value = {"class_path": value}
    if isinstance(value, Mapping) and "class_path" in value:
        yield from _node_faults(value, key, wanted)
    elif isinstance(value, list) and items is not None:
        for index, item in enumerate(value):
            yield from _value_faults(items, item, (*key, index), f"an item of {subject}")
    elif isinstance(value, Mapping) and entries is not None:
        for name, entry in value.items():
            yield from _value_faults(entries, entry, (*key, name), f"`{name}` of {subject}")
    elif isinstance(value, Mapping) and nested is not None:
        yield from _argument_faults(nested, value, key, registry.path_of(nested))
        yield Call(nested, value), key
    elif isinstance(value, Mapping) and wanted.classes:
        if close := nearest("class_path", map(str, value)):
            yield RecipeError(f"unknown key `{close}` for {subject}", hint=CLASS_PATH), (*key, close)
        yield RecipeError(f"{subject} needs a `class_path`", hint=f"it takes {described(hint)}"), key
    elif isinstance(value, str) and HubModel in wanted.classes:
        try:
            HubModel.parse(value)
        except ZooError as error:
            yield error, key
    elif not accepts(hint, value):
        closest = did_you_mean(value, choices(hint)) if isinstance(value, str) else None
        yield RecipeError(f"{subject} must be {described(hint)}, got {value!r}", hint=closest), key


def _node_faults(node: Mapping[str, Any], key: Key, wanted: Wanted) -> Iterator[Found]:
    """Faults of a mapping that says `class_path`."""
    path = node["class_path"]
    if not isinstance(path, str):
        yield RecipeError(f"`class_path` must be a text, got {path!r}"), (*key, "class_path")
        return
    try:
        found = _imported(path, wanted)
    except ZooError as error:
        yield error, (*key, "class_path")
        return
    for extra in node.keys() - NODE_KEYS:
        hint = "put it under init_args"
        yield RecipeError(f"the key `{extra}` stands beside `class_path`", hint=hint), (*key, extra)
    is_class = isinstance(found, type)
    fits = issubclass(found, wanted.classes or object) if is_class else callable(found)
    if not fits:
        yield RecipeError(f"`{path}` is no {wanted}"), (*key, "class_path")
    arguments = node.get("init_args") or {}
    if not isinstance(arguments, Mapping):
        yield RecipeError(f"`init_args` must be a mapping, got {arguments!r}"), (*key, "init_args")
        return
    yield from _argument_faults(found, arguments, (*key, "init_args"), path, wanted.num_given)
    if is_class and fits and wanted.classes and not wanted.num_given:
        yield Call(found, node), key


def _imported(path: str, wanted: Wanted) -> Any:
    module, _, name = path.rpartition(".")
    if not (module and name):
        return _by_bare_name(path, wanted)
    try:
        home = importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ZooError):
            raise
        if not module.startswith(error.name or module):  # it is there, and what it imports is not
            raise RecipeError(f"`{module}` cannot be imported: {error}") from error
        groups = {entry.group for entry in registry.entries()}
        close = (
            did_you_mean(module, groups) if module.startswith("zoo") else "correct it, or install what has it"
        )
        raise RecipeError(f"no module `{module}` for `{path}`", hint=close) from error
    if module in registry.GROUPS or hasattr(home, name):
        return getattr(home, name)  # a group says by itself what it does not know
    raise RecipeError(f"no `{name}` in `{module}`", hint=did_you_mean(name, _public(home)))


def _by_bare_name(name: str, wanted: Wanted) -> type:
    known = bare_names(wanted)
    if name not in known:
        hint = "write it with its module, as zoo.heads.CausalLM"
        raise RecipeError(f"`{name}` is no class path", hint=hint)
    return known[name]


def _public(module: types.ModuleType) -> list[str]:
    return [name for name in dir(module) if inspect.isclass(getattr(module, name, None))]


def _argument_faults(
    called: Any, values: Mapping[str, Any], key: Key, subject: str, num_given: int = 0
) -> Iterator[Found]:
    """Faults of what a class is called with: unknown names, wrong values, missing ones."""
    parameters = dict(list(inspect.signature(called).parameters.items())[num_given:])
    hints = _hints(called)
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in values.items():
        plain = name.removesuffix("+")
        if plain in parameters:
            hint = hints.get(plain, Any)
            hint = hint | None if parameters[plain].default is None else hint
            yield from _value_faults(hint, value, (*key, name), f"`{plain}` of {subject}")
        elif not is_open:
            hint = did_you_mean(name, parameters)
            yield RecipeError(f"unknown key `{name}` for {subject}", hint=hint), (*key, name)
    for name, parameter in parameters.items():
        is_named = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        if is_named and parameter.default is parameter.empty and name not in values:
            yield (
                RecipeError(f"`{name}` of {subject} is missing"),
                key[:-1] if key[-1] == "init_args" else key,
            )


def _hints(called: Any) -> dict[str, Any]:
    try:
        target = called if dataclasses.is_dataclass(called) else getattr(called, "__init__", called)
        return typing.get_type_hints(target)
    except (NameError, TypeError, AttributeError):
        return {}
