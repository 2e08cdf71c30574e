"""Every quickstart recipe with one mistake in it, in hundreds of ways: one screen that names the mistake.

Mistakes are made on the resolved recipe, written with one key a line, so that each key's line is known
without the code that is tested. What is legal is told by the classes' own signatures.
"""

import inspect
import json
import random
import typing
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning as L
import pytest

import zoo.cli.training  # noqa: F401 - logging binds stderr at its import, which no test may capture
from zoo import registry
from zoo.cli import recipes
from zoo.specs import Spec

Key = tuple[str | int, ...]
Command = Callable[..., Any]

RECIPES = sorted(name for name in registry.recipes() if name.startswith("quickstart/"))
LEAST = 200
SHARE = 28
"""Mistakes of each kind that are made in each run of the tests."""
STRUCTURE = ("class_path", "init_args")
TOP = {"model": L.LightningModule, "data": L.LightningDataModule, "trainer": dict, "seed_everything": int}
FOREIGN = ("Traceback", "Problem with given", "Parser key", "Expected a", "usage:", "NoneType", "not allowed")
"""Words of the libraries below, which help nobody here."""


BOUNDLESS = {"seed", "num_sanity_val_steps", "gradient_clip_val", "devices"}
"""Takes any number, or, of a Trainer, is judged by the machine that trains."""


class Pairs(list[tuple[str, Any]]):
    """A mapping in which a key may stand twice."""

    def names(self) -> list[str]:
        return [name for name, _ in self]


@dataclass
class Mistake:
    """A recipe with one mistake, and what the screen must say of it."""

    text: str
    says: str
    """What the first line names."""
    places: list[tuple[str | None, int | str | None]]
    """The dotted key and the line, or the flag; where two keys are at fault, either."""
    flags: tuple[str, ...] = ()
    warns: str = ""
    layer: str = ""


def paired(value: Any) -> Any:
    if isinstance(value, dict):
        return Pairs((name, paired(item)) for name, item in value.items())
    return [paired(item) for item in value] if isinstance(value, list) else value


def written(pairs: Pairs) -> tuple[str, dict[Key, int]]:
    """The recipe's text, and the line of each key; of one that stands twice, its second."""
    lines: list[str] = []
    places: dict[Key, int] = {}

    def mapping(pairs: Pairs, key: Key, margin: str) -> None:
        for name, value in pairs:
            places[(*key, name)] = len(lines) + 1
            if isinstance(value, Pairs) and value:
                lines.append(f"{margin}{name}:")
                mapping(value, (*key, name), margin + "  ")
            elif isinstance(value, list) and value and all(isinstance(item, Pairs) for item in value):
                lines.append(f"{margin}{name}:")
                for index, item in enumerate(value):
                    places[(*key, name, index)] = len(lines) + 1
                    start = len(lines)
                    mapping(item, (*key, name, index), margin + "  ")
                    lines[start] = f"{margin}- {lines[start].strip()}"
            else:
                plain = dict(value) if isinstance(value, Pairs) else value
                lines.append(f"{margin}{name}: {json.dumps(plain)}")

    mapping(pairs, (), "")
    return "\n".join(lines) + "\n", places


def dotted(key: Key) -> str | None:
    return ".".join(str(part) for part in key if part not in STRUCTURE) or None


def at(tree: Any, key: Key) -> Any:
    for part in key:
        tree = dict(tree)[part] if isinstance(tree, Pairs) else tree[part]
    return tree


def mappings(tree: Any, key: Key = ()) -> Iterator[Key]:
    if isinstance(tree, Pairs):
        yield key
    for part, value in tree if isinstance(tree, Pairs) else enumerate(tree):
        if isinstance(value, Pairs | list):
            yield from mappings(value, (*key, part))


def keys(tree: Pairs) -> list[Key]:
    return [(*key, name) for key in mappings(tree) for name in at(tree, key).names()]


def imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def arguments(tree: Pairs, key: Key) -> dict[str, inspect.Parameter]:
    """What may stand in the mapping under a key; nothing is known of one whose names are free."""
    if not key:
        return {name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in (*TOP, "ckpt_path")}
    owner = owner_of(tree, key)
    return dict(inspect.signature(owner).parameters) if owner else {}


def owner_of(tree: Pairs, key: Key) -> Any:
    if key == ("trainer",):
        return L.Trainer
    return imported(at(tree, (*key[:-1], "class_path"))) if key[-1:] == ("init_args",) else None


def hint_of(tree: Pairs, key: Key) -> Any:
    owner = owner_of(tree, key[:-1])
    if owner is None:
        return TOP.get(str(key[-1])) if len(key) == 1 else None
    hints = typing.get_type_hints(owner) if issubclass(owner, Spec) else {}
    return (hints or typing.get_type_hints(owner.__init__)).get(key[-1])


def kinds(hint: Any) -> tuple[Any, ...]:
    """The plain types that a value may have."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    if typing.get_origin(hint) in (None, list, dict, tuple) or not typing.get_args(hint):
        return (typing.get_origin(hint) or hint,)
    return tuple(kind for inner in typing.get_args(hint) for kind in kinds(inner))


def holds(hint: Any, value: Any) -> bool:
    """Whether a value is of a type, by the rule that the docs tell: an int may stand for a float."""
    allowed = kinds(hint)
    return type(value) in allowed or value in allowed or (type(value) is int and float in allowed) or (
        value is None and type(None) in allowed
    )  # fmt: skip


def misspelt(name: str) -> list[str]:
    middle = len(name) // 2
    dropped = name[:middle] + name[middle + 1 :]
    return [word for word in (dropped, name + "z") if word != name]


class Workshop:
    """Makes mistakes in one recipe."""

    def __init__(self, name: str) -> None:
        self.tree = paired(recipes.read(registry.recipe_path(name)).values)
        self.draw = random.Random(name)

    def changed(self, key: Key, change: Callable[[Pairs, int], None]) -> Pairs:
        """The recipe after a change where a key stands."""
        tree: Pairs = deepcopy(self.tree)
        pairs = at(tree, key[:-1])
        change(pairs, pairs.names().index(key[-1]))
        return tree

    def with_value(self, key: Key, value: Any) -> Pairs:
        def change(pairs: Pairs, index: int) -> None:
            pairs[index] = (pairs[index][0], value)

        return self.changed(key, change)

    def mistake(self, tree: Pairs, says: str, *faults: Key, lines: Sequence[Key] = ()) -> Mistake:
        text, places = written(tree)
        found = [(dotted(key), places.get(line)) for key, line in zip(faults, lines or faults, strict=True)]
        return Mistake(text, says, found)

    def is_free(self, key: Key) -> bool:
        """Whether the names in this mapping are their writer's own."""
        return bool(key) and key[-1] != "init_args" and key != ("trainer",) and not self.is_node(key)

    def is_node(self, key: Key) -> bool:
        return isinstance(at(self.tree, key), Pairs) and "class_path" in at(self.tree, key).names()

    def misspelt_keys(self) -> Iterator[Mistake]:
        for key in keys(self.tree):
            if self.is_free(key[:-1]):
                continue
            for word in misspelt(str(key[-1])):

                def rename(pairs: Pairs, index: int, word: str = word) -> None:
                    pairs[index] = (word, pairs[index][1])

                yield self.mistake(self.changed(key, rename), f"`{word}`", (*key[:-1], word))

    def moved_keys(self) -> Iterator[Mistake]:
        for key in keys(self.tree):
            if key[-1] in STRUCTURE or len(key) == 1 or self.is_free(key[:-1]):
                continue
            targets = [
                target
                for target in mappings(self.tree)
                if target != key[:-1] and target[: len(key)] != key and not self.is_free(target)
                and key[-1] not in (*arguments(self.tree, target), *at(self.tree, target).names())
            ]  # fmt: skip
            for target in self.draw.sample(targets, min(2, len(targets))):
                tree = self.changed(key, lambda pairs, index: pairs.__delitem__(index))
                at(tree, target).append((str(key[-1]), at(self.tree, key)))
                faults = [(*target, key[-1])] + [self.node_of(key)] * self.is_required(key)
                yield self.mistake(tree, f"`{key[-1]}`", *faults)

    def is_required(self, key: Key) -> bool:
        parameter = arguments(self.tree, key[:-1]).get(str(key[-1]))
        return parameter is not None and parameter.default is parameter.empty

    def node_of(self, key: Key) -> Key:
        return key[:-2] if key[-2:-1] == ("init_args",) else key[:-1]

    def missing_keys(self) -> Iterator[Mistake]:
        for key in keys(self.tree):
            tree = self.changed(key, lambda pairs, index: pairs.__delitem__(index))
            if key[-1] == "class_path":
                yield self.mistake(tree, "`class_path`", key[:-1])
            elif key[-1] == "init_args":
                required = [name for name in at(self.tree, key).names() if self.is_required((*key, name))]
                if required:
                    yield self.mistake(tree, f"`{required[0]}`", key[:-1])
            elif key in (("model",), ("data",)):
                yield self.mistake(tree, f"`{key[0]}`", ())
            elif len(key) > 1 and self.is_required(key):
                yield self.mistake(tree, f"`{key[-1]}`", self.node_of(key))

    def doubled_keys(self) -> Iterator[Mistake]:
        for key in keys(self.tree):
            tree = self.changed(key, lambda pairs, index: pairs.append(pairs[index]))
            yield self.mistake(tree, f"`{key[-1]}`", key)

    def wrong_types(self) -> Iterator[Mistake]:
        for key in keys(self.tree):
            hint = hint_of(self.tree, key)
            if hint is None or isinstance(at(self.tree, key), Pairs):
                continue
            for value in ("wrong", ["wrong", "wrong"], Pairs([("wrong", 1)]), None, True, 0.5, 3):
                plain = dict(value) if isinstance(value, Pairs) else value
                if not holds(hint, plain) and type(plain) is not type(at(self.tree, key)):
                    yield self.mistake(self.with_value(key, value), f"`{key[-1]}`", key)

    def wrong_structure(self) -> Iterator[Mistake]:
        for key in keys(self.tree):
            if not isinstance(at(self.tree, key), Pairs):
                continue
            for value in ("wrong", 3, ["wrong"], True):
                yield self.mistake(self.with_value(key, value), str(value).strip("[]'"), key)

    def wrong_classes(self) -> Iterator[Mistake]:
        others = ("zoo.heads.CausalLM", "zoo.schedules.Constant", "torch.optim.SGD", "json.JSONDecoder")
        for key in keys(self.tree):
            if key[-1] != "class_path":
                continue
            path = at(self.tree, key)
            module, _, name = path.rpartition(".")
            words = [f"{module}.{word}" for word in misspelt(name)] + [f"{module}x.{name}", f"nowhere.{name}"]
            words += [f"{module}.", module, misspelt(name)[0]]
            words += [other for other in others if other.rpartition(".")[0] != module]
            for word in words:
                yield self.mistake(self.with_value(key, word), word.rpartition(".")[2] or word, key)
            for value in (3, None, ["wrong"], Pairs([("wrong", 1)])):
                yield self.mistake(self.with_value(key, value), "`class_path`", key)

    def wrong_ranges(self) -> Iterator[Mistake]:
        for key in keys(self.tree):
            value, owner = at(self.tree, key), owner_of(self.tree, key[:-1])
            if type(value) in (int, float) and owner and key[-1] not in BOUNDLESS:
                yield self.mistake(self.with_value(key, -7), str(key[-1]), key)

    def wrong_layers(self) -> Iterator[Mistake]:
        text, _ = written(self.tree)
        for key in keys(self.tree):
            if key[-1] != "class_path" or any(isinstance(part, int) for part in key):
                continue
            before = at(self.tree, key)
            has_arguments = "init_args" in at(self.tree, key[:-1]).names()
            for after in ("zoo.schedules.Constant", "torch.optim.SGD", "zoo.heads.CausalLML"):
                if before.rpartition(".")[0] == after.rpartition(".")[0]:
                    continue
                layer: Any = after
                for part in reversed(key):
                    layer = Pairs([(str(part), layer)])
                layered, places = written(layer)
                warning = f"layer.yaml changes `{dotted(key)}` from {before} to {after}; " * has_arguments
                fault = [(dotted(key), places[key])]
                yield Mistake(text, after.rpartition(".")[2], fault, layer=layered, warns=warning)

    def wrong_flags(self) -> Iterator[Mistake]:
        text, _ = written(self.tree)
        for key in keys(self.tree):
            if any(isinstance(part, int) for part in key) or key[-1] in STRUCTURE or self.is_free(key[:-1]):
                continue
            word = misspelt(str(key[-1]))[0]
            flag = f"--{dotted((*key[:-1], word))}"
            yield Mistake(text, f"`{word}`", [(flag[2:], flag)], flags=(f"{flag}=3",))
            hint = hint_of(self.tree, key)
            if hint is not None and not isinstance(at(self.tree, key), Pairs) and not holds(hint, "wrong"):
                flag = f"--{dotted(key)}"
                yield Mistake(text, f"`{key[-1]}`", [(flag[2:], flag)], flags=(flag, "wrong"))

    def wrong_bases(self) -> Iterator[Mistake]:
        for base in ("recipe.yaml", "presets/cpp", "nothing.yaml", ["presets/cpu", "nowhere/nothing"], 3, ""):
            for index in (0, len(self.tree)):
                tree = deepcopy(self.tree)
                tree.insert(index, ("base", base))
                yield self.mistake(tree, base[-1] if isinstance(base, list) else str(base), ("base",))

    def wrong_parts(self) -> Iterator[Mistake]:
        """Data for a head that is not there, a head without data, and another length that is not there."""
        key, heads = ("data", "init_args", "parts"), ("model", "init_args", "heads")
        if key not in keys(self.tree):
            return
        for name in at(self.tree, key).names():
            rest = [(*key[:-1], other) for other in at(self.tree, key[:-1]).names() if other != "parts"]
            tree = deepcopy(self.tree)
            for free in [key, *(other for other in rest if name in at(tree, other).names())]:
                pairs = at(tree, free)
                pairs[pairs.names().index(name)] = ("other", at(tree, (*free, name)))
            yield self.mistake(tree, "`other`", (*key, "other"))
            tree = deepcopy(self.tree)
            for free in [key, *(other for other in rest if name in at(tree, other).names())]:
                del at(tree, free)[at(tree, free).names().index(name)]
            yield self.mistake(tree, f"`{name}`", (*heads, name))
            tree = deepcopy(self.tree)
            del at(tree, heads)[at(tree, heads).names().index(name)]
            yield self.mistake(tree, f"`{name}`", (*key, name))
            for other in rest:
                if name in at(self.tree, other).names():
                    tree = deepcopy(self.tree)
                    pairs = at(tree, other)
                    pairs[pairs.names().index(name)] = ("other", 3)
                    yield self.mistake(tree, "other", (*other, "other"), other)

    def wrong_heads(self) -> Iterator[Mistake]:
        key: Key = ("model", "init_args")
        given = dict(at(self.tree, key))
        head = Pairs([("class_path", "zoo.heads.SequenceClassification")])
        tree = deepcopy(self.tree)
        for name, value in (("head", head), ("heads", Pairs([("one", head)]))):
            if name not in given:
                at(tree, key).append((name, value))
        yield self.mistake(tree, "`head`", (*key, "heads"))


KINDS = [name for name, made in vars(Workshop).items() if inspect.isgeneratorfunction(made)]


def fault_of(mistake: Mistake, command: Command, folder: Path, verb: Sequence[str]) -> str | None:
    """What is wrong with the screen of a mistake."""
    (folder / "recipe.yaml").write_text(mistake.text)
    layers = ()
    if mistake.layer:
        (folder / "layer.yaml").write_text(mistake.layer)
        layers = ("--config", "layer.yaml")
    before = sorted(folder.rglob("*"))
    outcome = command(*verb, *layers, *mistake.flags)
    lines = outcome.err.splitlines()
    if mistake.warns and not (lines and lines.pop(0).startswith(f"zoo: {mistake.warns}")):
        return "no warning"
    if outcome.code != 2 or outcome.out:
        return f"ends with {outcome.code}"
    if sorted(folder.rglob("*")) != before:
        return "leaves something behind"
    if not 0 < len(lines) <= 12 or not lines[0].startswith("zoo: "):
        return "is no screen"
    if any(word in outcome.err for word in FOREIGN):
        return "speaks in a library's words"
    if mistake.says not in lines[0]:
        return f"does not name {mistake.says}"
    for key, place in mistake.places:
        file = "layer.yaml" if mistake.layer else "recipe.yaml"
        source = f"the command line: {place}" if isinstance(place, str) else f"{file}:{place}"
        wanted = [f"  at    {key}"] * (key is not None) + [f"  in    {source}"] * (place is not None)
        if lines[1 : len(wanted) + 1] == wanted:
            return None
    return f"names none of {mistake.places}"


def mistakes(name: str, kind: str, share: int | None) -> list[Mistake]:
    """All of a kind, or so many of them, always the same."""
    made = list(getattr(Workshop(name), kind)())
    return made if share is None else random.Random(kind).sample(made, min(share, len(made)))


@pytest.mark.parametrize("name", RECIPES)
def test_there_are_hundreds_of_mistakes(name: str) -> None:
    assert sum(len(mistakes(name, kind, SHARE)) for kind in KINDS) >= LEAST


@pytest.mark.parametrize("share", [SHARE, pytest.param(None, marks=pytest.mark.slow, id="all")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RECIPES)
def test_each_mistake_is_one_screen_that_names_it(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, share: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    failures = []
    for mistake in mistakes(name, kind, share):
        if (fault := fault_of(mistake, command, tmp_path, ["check", "recipe.yaml"])) is not None:
            failures.append(f"{fault}: {mistake.says} {mistake.places} {mistake.flags}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("name", RECIPES)
def test_a_mistake_is_refused_before_any_training(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in KINDS:
        for mistake in mistakes(name, kind, 1):
            verb = ["fit", "--config", "recipe.yaml"]
            assert fault_of(mistake, command, tmp_path, verb) is None, (kind, mistake.says, mistake.places)
