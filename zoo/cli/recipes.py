"""Recipes as text: names and bases resolved, layers merged, every key with its file and line.

Works on jsonargparse's public `set_loader`: parsers in mode `zoo` read their files through `load`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from zoo import registry
from zoo.errors import RecipeError

MODE = "zoo"

Key = tuple[str | int, ...]


@dataclass
class Recipe:
    """A recipe with its bases merged in, and where each key was written."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)
    """File and line of each key, the last one that set it."""

    def place(self, key: Key) -> str | None:
        """Where a key, or the nearest one above it, was written."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key)

    def overlay(self, other: "Recipe") -> None:
        """Puts another recipe on top, as a child on its base."""
        self.values = _merged(self.values, other.values)
        self.places.update(other.places)


def load(text: str, path: str | None = None) -> Any:
    """What jsonargparse reads: a recipe's file, or a value of one option."""
    if path is None:
        return get_loader("yaml")(text)
    return parse(text, Path(path)).values


set_loader(MODE, load, (yaml.YAMLError,))


def read(path: Path) -> Recipe:
    """A recipe's file with its bases merged in.

    Raises:
        RecipeError: It is no YAML mapping, says a key twice, or its bases are not there or form a circle.
    """
    return parse(path.read_text("utf-8"), path)


def parse(text: str, path: Path, descendants: tuple[Path, ...] = ()) -> Recipe:
    """As `read`, of a text that is there already."""
    if path.resolve() in descendants:
        raise RecipeError(f"the recipe {path} is its own base", source=str(path))
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        source = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecipeError(
            f"the recipe is no YAML: {error.problem or error.context}", source=source
        ) from error
    if node is None:
        raise RecipeError(f"the recipe {path} is empty", source=str(path))
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError(f"the recipe {path} is no mapping of keys", source=f"{path}:1")
    own = Recipe()
    _mark(node, (), path, own.places)
    own.values = get_loader("yaml")(text)
    bases = own.values.pop("base", [])
    merged = Recipe()
    for base in [bases] if isinstance(bases, str) else bases:
        try:
            file = registry.recipe_path(str(base), path.parent)
        except RecipeError as error:
            error.at, error.source = "base", own.place(("base",))
            raise
        merged.overlay(parse(file.read_text("utf-8"), file, (*descendants, path.resolve())))
    merged.overlay(own)
    return merged


def _mark(node: yaml.Node, key: Key, path: Path, places: dict[Key, str]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for name_node, value_node in node.value:
            name, line = str(name_node.value), name_node.start_mark.line + 1
            if name in seen:
                raise RecipeError(
                    f"the key `{name}` stands twice in one mapping, first on line {seen[name]}",
                    at=dotted((*key, name)),
                    source=f"{path}:{line}",
                    hint="keep one of them",
                )
            seen[name] = line
            places[(*key, name)] = f"{path}:{line}"
            _mark(value_node, (*key, name), path, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[(*key, index)] = f"{path}:{item.start_mark.line + 1}"
            _mark(item, (*key, index), path, places)


def _merged(base: Any, child: Any) -> Any:
    """Mappings key by key; `init_args` fall away with another `class_path`; `key+` appends to a list."""
    if not (isinstance(base, dict) and isinstance(child, dict)):
        return child
    result = dict(base)
    if child.get("class_path", base.get("class_path")) != base.get("class_path"):
        result.pop("init_args", None)
    for name, value in child.items():
        if name.endswith("+") and isinstance(result.get(name[:-1]), list):
            result[name[:-1]] = [*result[name[:-1]], *(value if isinstance(value, list) else [value])]
        else:
            result[name] = _merged(result[name], value) if name in result else value
    return result


def dotted(key: Key) -> str:
    """A key as people write it, `init_args` and `class_path` left out."""
    return ".".join(str(part) for part in key if part not in ("init_args", "class_path"))
