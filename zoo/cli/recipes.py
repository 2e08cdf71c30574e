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

NODE_KEYS = {"class_path", "init_args", "dict_kwargs"}
"""What stands in a mapping that names a class."""


@dataclass
class Recipe:
    """A recipe with its bases merged in, and where each key was written."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)
    """File and line of each key, the last one that set it."""

    def place(self, key: Key) -> str | None:
        """Where a key, what lies under it, or the nearest one above it, was written."""
        while key and key not in self.places:
            under = [place for other, place in self.places.items() if other[: len(key)] == key]
            if under:
                return under[0]
            key = key[:-1]
        return self.places.get(key)

    def forget(self, key: Key) -> None:
        """Drops the places of what lay under a key."""
        self.places = {other: place for other, place in self.places.items() if other[: len(key)] != key}

    def has(self, key: Key) -> bool:
        """Whether a value stands under a key."""
        node: Any = self.values
        for part in key:
            if not (
                part in node
                if isinstance(node, dict)
                else isinstance(node, list) and part in range(len(node))
            ):
                return False
            node = node[part]
        return True

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
    return parse(_text_of(path), path)


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecipeError(f"the recipe is not UTF-8: byte {error.start}", source=f"{path}:{line}") from error


def parse(text: str, path: Path, descendants: tuple[Path, ...] = ()) -> Recipe:
    """As `read`, of a text that is there already."""
    own = Recipe()
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
            raise RecipeError(f"the recipe {path} is empty", source=f"{path}:1")
        if not isinstance(node, yaml.MappingNode):
            raise RecipeError(f"the recipe {path} is no mapping of keys", source=f"{path}:1")
        _mark(node, (), path, own.places)
        own.values = get_loader("yaml")(text)
    except yaml.YAMLError as error:
        raise _no_yaml(error, text, path) from error
    if "config" in own.values:  # of what it names, whole groups of keys would be lost beside the recipe's
        raise RecipeError(
            "a recipe starts from others by `base`, got `config`", at="config", source=own.place(("config",))
        )
    bases = own.values.pop("base", [])
    merged = Recipe()
    for index, base in enumerate(bases if isinstance(bases, list) else [bases]):
        try:
            file = registry.recipe_path(str(base), path.parent)
            if file.resolve() in (*descendants, path.resolve()):
                raise RecipeError(f"the recipe {file} is its own base", hint="take it out of `base`")
        except RecipeError as error:
            error.at, error.source = "base", own.place(("base", index))
            raise
        merged.overlay(parse(_text_of(file), file, (*descendants, path.resolve())))
    merged.overlay(own)
    return merged


def _no_yaml(error: yaml.YAMLError, text: str, path: Path) -> RecipeError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        reason, line = error.problem or error.context, mark.line + 1 if mark else 1
    else:  # a character that YAML does not know
        reason, line = str(error).splitlines()[0], text.count("\n", 0, getattr(error, "position", 0)) + 1
    return RecipeError(f"the recipe is no YAML: {reason}", source=f"{path}:{line}")


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


def place_of(recipe: Recipe, at: str) -> str | None:
    """Where a dotted key was written, what lies under it, or what it lies in."""
    written: dict[Key, Key] = {}
    for key in recipe.places:
        for end in range(1, len(key) + 1):
            written.setdefault(tuple(dotted(key[:end]).split(".")), key[:end])
    parts = at.split(".")
    while parts and tuple(parts) not in written:
        parts.pop()
    return recipe.place(written[tuple(parts)]) if parts else None
