"""The walk that finds a recipe's first fault."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from zoo.cli import diagnosis
from zoo.cli.recipes import Recipe
from zoo.specs import HeadSpec, HubModel

TOP = {"model", "data", "trainer", "seed_everything"}


class Colour(Enum):
    RED = "red"


@dataclass
class Group:
    """A plain dataclass, which a recipe writes as a mapping."""

    size: int = 1


class Model(L.LightningModule):
    """Takes a value of each kind that a recipe can write."""

    def __init__(
        self,
        head: HeadSpec | None = None,
        heads: Mapping[str, HeadSpec] | None = None,
        group: Group | None = None,
        folder: Path | None = None,
        colour: Colour = Colour.RED,
        many: list[int] | None = None,
        make: Callable[[int], Group] | None = None,
        source: HubModel | HeadSpec | None = None,
        **rest: Any,
    ) -> None:
        super().__init__()
        if many == [13]:
            raise ValueError("13 brings\nbad luck")
        if many == [14]:
            raise ZeroDivisionError


class Data(L.LightningDataModule):
    """Takes nothing."""


def fault(**arguments: Any) -> str | None:
    path = f"{__name__}."
    recipe = Recipe({"model": {"class_path": f"{path}Model", "init_args": arguments}})
    recipe.values["data"] = {"class_path": f"{path}Data"}
    found = diagnosis.diagnose(recipe, TOP)
    return str(found) if found else None


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"head": {"class_path": "zoo.heads.CausalLM"}},
        {"head": "zoo.heads.CausalLM"},
        {"head": "CausalLM"},  # the parser finds imported classes by their bare names, too
        {"heads": {"one": {"class_path": "zoo.heads.CausalLM"}, "two": "zoo.heads.CausalLM"}},
        {"group": {"size": 3}},
        {"folder": "some.where"},
        {"colour": "RED"},
        {"many": [1, 2]},
        {"make": {"class_path": f"{__name__}.Group"}},
        {"source": "a/b"},
        {"source": "zoo.heads.CausalLM"},
        {"anything": 3},
    ],
    ids=str,
)
def test_what_holds_is_not_reported(arguments: dict[str, Any]) -> None:
    assert fault(**arguments) is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            {"heads": {"one": {"class_path": "zoo.heads.CausalML"}}},
            "unknown name `CausalML` in zoo.heads\n  at    model.heads.one\n  did you mean `CausalLM`?",
        ),
        ({"group": {"sise": 3}}, f"unknown key `sise` for {__name__}.Group\n  at    model.group.sise\n"
         "  did you mean `size`?"),
        ({"group": {"size": "x"}}, f"`size` of {__name__}.Group must be int, got 'x'\n"
         "  at    model.group.size"),
        ({"colour": "REED"}, f"`colour` of {__name__}.Model must be Colour, got 'REED'\n"
         "  at    model.colour"),
        ({"many": [1, "x"]}, f"`many` of {__name__}.Model must be list[int] or null, got [1, 'x']\n"
         "  at    model.many"),
        ({"many": [13]}, f"{__name__}.Model refuses its arguments: 13 brings bad luck\n  at    model"),
        ({"head": {"class_path": 3}}, "`class_path` must be a text, got 3\n  at    model.head"),
        ({"head": {"class_path": "zoo.heads.CausalLM", "init_args": 3}},
         "`init_args` must be a mapping, got 3\n  at    model.head"),
        ({"source": 3}, f"`source` of {__name__}.Model must be a Hub id or folder, HeadSpec or null, got 3\n"
         "  at    model.source"),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_named(arguments: dict[str, Any], expected: str) -> None:
    assert fault(**arguments) == expected


def test_a_bug_in_a_class_is_no_users_mistake() -> None:
    with pytest.raises(ZeroDivisionError):
        fault(many=[14])


def test_a_module_whose_own_import_fails_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halfway.py").write_text("import nowhere_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    assert fault(head={"class_path": "halfway.Head"}) == (
        "`halfway` cannot be imported: No module named 'nowhere_at_all'\n  at    model.head"
    )
