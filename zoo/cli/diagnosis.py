"""What is wrong with a recipe that jsonargparse refused, and on which line.

jsonargparse is the judge; its messages name the last part of a key and no line. Here the recipe is walked
with the same types, from the outside in, until the first key that does not hold by itself.
"""

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from zoo import registry
from zoo.cli.recipes import Key, Recipe, dotted
from zoo.errors import RecipeError, SpecError, ZooError, did_you_mean
from zoo.specs import HubModel, Spec, make

_NODE_KEYS = {"class_path", "init_args", "dict_kwargs"}


def diagnose(recipe: Recipe, message: str, top_keys: set[str]) -> ZooError:
    """The first fault of a recipe; the parser's own message where none is found.

    Args:
        recipe: All layers merged, flags included.
        message: What the parser said.
        top_keys: Keys that may stand at the top.
    """
    for error, key in _faults(recipe.values, top_keys):
        if error.at is None or not dotted(key).endswith(error.at):
            error.at = ".".join(filter(None, (dotted(key), error.at)))
        error.source = recipe.place((*key, "init_args", error.at.rpartition(".")[2])) or recipe.place(key)
        return error
    lines = [line for line in message.splitlines() if line.strip()]
    return RecipeError(lines[0], hint="\n".join(line.strip() for line in lines[1:9]) or None)


Fault = tuple[ZooError, Key]


def _faults(values: Mapping[str, Any], top_keys: set[str]) -> Iterator[Fault]:
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
            yield from _argument_faults(L.Trainer, values["trainer"], ("trainer",))
        else:
            yield RecipeError(f"`trainer` must be a mapping, got {values['trainer']!r}"), ("trainer",)
    if not isinstance(values.get("seed_everything", 0), int):
        yield (
            RecipeError(f"`seed_everything` must be bool or int, got {values['seed_everything']!r}"),
            ("seed_everything",),
        )


def _node_faults(node: Mapping[str, Any], key: Key, base: Any) -> Iterator[Fault]:
    """Faults of a mapping that says `class_path`."""
    path = node["class_path"]
    if not isinstance(path, str):
        yield RecipeError(f"`class_path` must be a text, got {path!r}"), (*key, "class_path")
        return
    try:
        found = _imported(path)
    except ZooError as error:
        yield error, (*key, "class_path")
        return
    for extra in node.keys() - _NODE_KEYS:
        yield (
            RecipeError(f"the key `{extra}` stands beside `class_path`", hint="put it under init_args"),
            (*key, extra),
        )
    wanted = [kind for kind in _alternatives(base) if isinstance(kind, type)]
    if wanted and isinstance(found, type) and not issubclass(found, tuple(wanted)):
        names = " or ".join(sorted(kind.__name__ for kind in wanted if kind is not types.NoneType))
        yield RecipeError(f"`{path}` is no {names}"), (*key, "class_path")
    arguments = node.get("init_args") or {}
    if not isinstance(arguments, Mapping):
        yield RecipeError(f"`init_args` must be a mapping, got {arguments!r}"), (*key, "init_args")
        return
    yield from _argument_faults(found, arguments, (*key, "init_args"))
    if isinstance(found, type) and issubclass(found, Spec):
        try:
            make(found, arguments)
        except SpecError as error:
            yield error, key
        except (TypeError, ValueError, AttributeError):
            return  # a fault that was named already, or one for the parser's own words


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    if not module:
        raise RecipeError(
            f"`{path}` is no class path", hint="write it with its module, as zoo.heads.CausalLM"
        )
    try:
        home = importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ZooError):
            raise
        known = [entry.group for entry in registry.entries()]
        raise RecipeError(
            f"no module `{module}` for `{path}`", hint=did_you_mean(module, set(known))
        ) from error
    if module in registry.GROUPS or hasattr(home, name):
        return getattr(home, name)  # a group says by itself what it does not know
    raise RecipeError(f"no `{name}` in `{module}`", hint=did_you_mean(name, _public(home)))


def _public(module: types.ModuleType) -> list[str]:
    return [name for name in dir(module) if inspect.isclass(getattr(module, name, None))]


def _argument_faults(called: Any, values: Mapping[str, Any], key: Key) -> Iterator[Fault]:
    """Faults of what a class is called with: unknown names, wrong values, missing ones."""
    subject = _subject(called)
    parameters = inspect.signature(called).parameters
    hints = _hints(called)
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in values.items():
        plain = name.removesuffix("+")
        if plain in parameters:
            yield from _value_faults(hints.get(plain, Any), value, (*key, name), f"`{plain}` of {subject}")
        elif not is_open:
            yield (
                RecipeError(f"unknown key `{name}` for {subject}", hint=did_you_mean(name, parameters)),
                (*key, name),
            )
    for name, parameter in parameters.items():
        is_named = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        is_given_later = name in ("params", "optimizer") and not isinstance(called, type(Spec))
        if is_named and parameter.default is parameter.empty and name not in values and not is_given_later:
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


def _value_faults(hint: Any, value: Any, key: Key, subject: str) -> Iterator[Fault]:
    if isinstance(value, Mapping) and "class_path" in value:
        yield from _node_faults(value, key, hint)
        return
    classes = [
        kind for kind in _alternatives(hint) if isinstance(kind, type) and kind.__module__ != "builtins"
    ]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = [kind for entry in _alternatives(hint) for kind in typing.get_args(entry)]
        item_hint = typing.Union[tuple(items)] if items else Any  # noqa: UP007 - made at run time
        for index, item in enumerate(value):
            yield from _value_faults(item_hint, item, (*key, index), subject)
        return
    nested = next(
        (kind for kind in classes if dataclasses.is_dataclass(kind) and not issubclass(kind, Spec)), None
    )
    if isinstance(value, Mapping) and nested is not None and nested is not HubModel:
        yield from _argument_faults(nested, value, key)
    elif isinstance(value, Mapping) and classes:
        yield RecipeError(f"{subject} needs a `class_path`", hint=f"it takes {_described(hint)}"), key
    elif isinstance(value, str) and HubModel in classes:
        try:
            HubModel.parse(value)
        except SpecError as error:
            yield error, key
    elif not _accepts(hint, value):
        yield RecipeError(f"{subject} must be {_described(hint)}, got {value!r}"), key


def _accepts(hint: Any, value: Any) -> bool:
    """Whether a value is of a type, by the parser's own rules."""
    if hint in (Any, inspect.Parameter.empty):
        return True
    parser = ArgumentParser(exit_on_error=False)
    try:
        parser.add_argument("--it", type=hint)
    except ValueError:
        return True  # a type that the parser does not know is not ours to judge
    try:
        parser.parse_object({"it": value})
    except (ArgumentError, TypeError, ValueError):
        return False
    return True


def _alternatives(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _described(hint: Any) -> str:
    words: list[str] = []
    for kind in _alternatives(hint):
        if kind is types.NoneType:
            words.append("null")
        elif typing.get_origin(kind) is typing.Literal:
            words += [str(choice) for choice in typing.get_args(kind)]
        elif kind is HubModel:
            words.append("a Hub id or folder")
        elif isinstance(kind, type):
            words.append(kind.__name__)
        else:
            words.append(str(kind).replace("typing.", ""))
    return " or ".join(dict.fromkeys(words))


def _subject(called: Any) -> str:
    return registry.path_of(called) if isinstance(called, type) else getattr(called, "__name__", str(called))


def with_flags(recipe: Recipe, arguments: list[str]) -> Recipe:
    """The recipe with `--a.b value` and `--a.b=value` laid on top, each placed at its flag."""
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            continue
        name, equals, text = word[2:].partition("=")
        value = text if equals else rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        if name in ("config", "c"):
            continue
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            parsed = value
        _put(recipe, name.split("."), parsed, f"the command line: {word}")
    return recipe


def _put(recipe: Recipe, parts: list[str], value: Any, place: str) -> None:
    node = recipe.values
    key: Key = ()
    for index, part in enumerate(parts):
        if "class_path" in node and part not in _NODE_KEYS:
            node = node.setdefault("init_args", {})
            key = (*key, "init_args")
        key = (*key, part)
        if index == len(parts) - 1:
            is_class = (
                isinstance(node.get(part), dict) and "class_path" in node[part] and isinstance(value, str)
            )
            node[part] = {"class_path": value} if is_class else value
        else:
            child = node.get(part)
            if isinstance(child, str) and "." in child:
                child = {"class_path": child}
            node[part] = child = child if isinstance(child, dict) else {}
            node = child
    recipe.places[key] = place


def place_of(recipe: Recipe, dotted_key: str) -> str | None:
    """Where a dotted key was written, `init_args` left out or not."""
    parts = dotted_key.split(".")
    for key, place in recipe.places.items():
        if [str(part) for part in key if part not in ("init_args", "class_path")] == parts:
            return place
    return place_of(recipe, ".".join(parts[:-1])) if len(parts) > 1 else None
