"""What a command line says: recipes laid over each other, then flags over all."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.cli import flags, recipes
from zoo.cli.recipes import Recipe
from zoo.errors import RecipeError
from zoo.hub import published

ORIGINS: dict[str, str] = {}
"""Of the files of recipes from the Hub, which commit's they are."""


def resolved(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments, recipes first, so that flags override, and by path; and those paths.

    A recipe of the Hub is pinned to its commit in `sys.argv`, too: Lightning starts other processes with it.
    """
    rest, names = [], []
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag not in ("--config", "-c"):
            rest.append(word)
        elif name := value if equals else next(words, None):
            names.append(_path_of(name))
        else:
            raise RecipeError(f"`{flag}` needs a recipe", hint="zoo list recipes shows the packaged ones")
    return [*(f"--config={name}" for name in names), *rest], names


def _path_of(name: str) -> str:
    """The file of a recipe: a path, a packaged name, or `hub:owner/name[@revision]`."""
    if not name.startswith(published.PREFIX):
        return str(registry.recipe_path(name))
    path, pinned = published.fetch(name)
    ORIGINS[str(path)] = pinned
    sys.argv[:] = [
        word[: -len(name)] + pinned if word in (name, f"--config={name}") else word for word in sys.argv
    ]
    return str(path)


def layered(names: list[str], arguments: list[str]) -> Recipe:
    """All recipes and flags as one, with a word where a layer changes a class that has arguments already."""
    merged = Recipe()
    for name in names:
        layer = recipes.read(Path(name))
        for at, before, after in _changed_classes(merged.values, layer.values, ""):
            print(
                f"zoo: {name} changes `{at}` from {before} to {after}; "
                "arguments of the same name stay as the layers before say",
                file=sys.stderr,
            )
        merged.overlay(layer)
    return flags.with_flags(merged, arguments)


def _changed_classes(base: Any, layer: Any, at: str) -> list[tuple[str, str, str]]:
    """Places where a layer names another class than the layers before, which gave it arguments."""
    if not (isinstance(base, Mapping) and isinstance(layer, Mapping)):
        return []
    found = []
    before, after = base.get("class_path"), layer.get("class_path")
    if before and after and before != after and base.get("init_args"):
        found.append((at, before, after))
    for name in base.keys() & layer.keys():
        inner = at if name == "init_args" else f"{at}.{name}".strip(".")
        found += _changed_classes(base[name], layer[name], inner)
    return found


def run_name(names: list[str]) -> str:
    """The folder under `runs/`: the last recipe's name."""
    if not names:
        return "run"
    if origin := ORIGINS.get(names[-1]):
        return origin.removeprefix(published.PREFIX).partition("@")[0].replace("/", "-")
    path = Path(names[-1])
    packaged = {file: name for name, file in registry.recipes().items()}
    return packaged.get(path, path.stem).replace("/", "-")
