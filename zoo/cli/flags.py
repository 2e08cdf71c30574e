"""Flags laid over a recipe, each key with the flag as its place."""

from typing import Any

import yaml

from zoo.cli import recipes
from zoo.cli.recipes import NODE_KEYS, Key, Recipe


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
            parsed = recipes.load(value)
        except yaml.YAMLError:
            parsed = value
        _put(recipe, name.split("."), parsed, f"the command line: --{name}")
    return recipe


def _put(recipe: Recipe, parts: list[str], value: Any, place: str) -> None:
    node = recipe.values
    key: Key = ()
    for part in parts[:-1]:
        node, key = _inside(node, key, part)
        child = node.get(part)
        if isinstance(child, str) and "." in child:
            child = {"class_path": child}
        node[part] = child = child if isinstance(child, dict) else {}
        node, key = child, (*key, part)
    node, key = _inside(node, key, parts[-1])
    key = (*key, parts[-1])
    before = node.get(parts[-1])
    if not (isinstance(before, dict) and before.get("class_path") == value):  # else its arguments stay
        node[parts[-1]] = value
        recipe.forget(key)
    recipe.places[key] = place


def _inside(node: dict[str, Any], key: Key, part: str) -> tuple[dict[str, Any], Key]:
    """Where an argument stands: under `init_args`, where there is a class."""
    if "class_path" not in node or part in NODE_KEYS:
        return node, key
    return node.setdefault("init_args", {}), (*key, "init_args")
