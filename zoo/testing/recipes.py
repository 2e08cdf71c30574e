"""What is promised of packaged recipes."""

import contextlib
import importlib.util
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.errors import ZooError
from zoo.testing.checks import Skip

FRAGMENT = {"base", "trainer"}
"""Keys of a preset, which holds with what it is laid over."""


@dataclass
class RecipesSubject:
    """The recipes of one entry point, by its name."""

    entry: str

    def paths(self) -> dict[str, Path]:
        """Each recipe's name and file.

        Raises:
            ZooError: There is none.
        """
        found = {name: path for name, path in registry.recipes().items() if name.startswith(f"{self.entry}/")}
        if not found:
            raise ZooError(
                f"no recipe is named `{self.entry}/…`", hint="zoo list recipes shows what there is"
            )
        return found


def every_recipe_says_what_it_is(recipes: RecipesSubject) -> None:
    """A recipe begins with a comment that says what it trains, on what, and what it takes."""
    for name, path in recipes.paths().items():
        lines = [line for line in path.read_text("utf-8").splitlines() if "yaml-language-server" not in line]
        assert "".join(lines[:1]).startswith("# "), f"{name} does not begin with a comment"


def every_recipe_holds(recipes: RecipesSubject) -> None:
    """`zoo check` finds nothing amiss: keys, types, fit of head and data, sizes."""
    from zoo.cli import checking  # which imports much

    unknown = []
    for name, path in recipes.paths().items():
        if _read(path).keys() <= FRAGMENT:
            continue
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            try:
                checking.run("check", [name])
            except ZooError as error:
                if "HF_HUB_OFFLINE forbids" in error.message:
                    unknown.append(name)
                    continue
                raise AssertionError(f"{name}: {error}") from error
        assert "The recipe holds." in shown.getvalue(), f"{name}: zoo check says {shown.getvalue()!r}"
    if unknown:
        raise Skip(f"HF_HUB_OFFLINE forbids to ask for the models of {', '.join(unknown)}; the others hold")


def no_recipe_names_a_place_of_this_machine(recipes: RecipesSubject) -> None:
    """A recipe names no absolute path, which no other machine has."""
    for name, path in recipes.paths().items():
        for text in _texts(_read(path)):
            assert not text.startswith(("/", "~")), f"{name} names {text}"


def every_recipe_fits_the_schema(recipes: RecipesSubject) -> None:
    """Editors that know `zoo schema` find nothing amiss."""
    if importlib.util.find_spec("jsonschema") is None:
        raise Skip("jsonschema is not installed")
    import jsonschema

    from zoo.cli.schema import schema

    validator = jsonschema.Draft202012Validator(schema())
    for name, path in recipes.paths().items():
        errors = sorted(validator.iter_errors(json.loads(json.dumps(_read(path)))), key=str)
        assert not errors, f"{name}: {errors[0].json_path}: {errors[0].message}"


def _read(path: Path) -> dict[str, Any]:
    from zoo.cli import recipes  # its own reader of YAML, for numbers such as 1e-3

    found = recipes.load(path.read_text("utf-8"))
    return found if isinstance(found, dict) else {}


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []
