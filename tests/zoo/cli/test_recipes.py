"""Recipes as text: bases, layers, places."""

from pathlib import Path
from typing import Any

import pytest

from zoo import registry
from zoo.cli import recipes
from zoo.errors import RecipeError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(**files: str) -> Any:
    """The values of the first recipe; the others lie beside it."""
    for name, text in files.items():
        Path(f"{name}.yaml").write_text(text)
    return recipes.read(Path(f"{next(iter(files))}.yaml")).values


def refusal(**files: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read(**files)
    return str(caught.value)


def test_a_recipe_is_laid_over_its_base_key_by_key() -> None:
    child = "base: parent.yaml\ntrainer: {max_steps: 3}\nseed_everything: 1"
    parent = "trainer: {max_steps: 2, devices: 1}\ndata: {x: {y: 1}}"
    merged = {"trainer": {"max_steps": 3, "devices": 1}, "data": {"x": {"y": 1}}, "seed_everything": 1}
    assert read(child=child, parent=parent) == merged


def test_later_bases_win_over_earlier_ones_and_bases_have_bases() -> None:
    files = {
        "child": "base: [one.yaml, two]\nd: child",
        "one": "{a: one, b: one, c: one, d: one}",
        "two.yaml": "",
        "root": "{a: root, b: root, c: root, d: root, e: root}",
    }
    Path("two").write_text("base: root.yaml\nb: two")
    del files["two.yaml"]
    assert read(**files) == {"a": "root", "b": "two", "c": "root", "d": "child", "e": "root"}


def test_a_base_is_looked_for_beside_its_child_first() -> None:
    Path("deep").mkdir()
    Path("deep/child.yaml").write_text("base: parent.yaml")
    Path("deep/parent.yaml").write_text("from: deep")
    Path("parent.yaml").write_text("from: here")
    assert recipes.read(Path("deep/child.yaml")).values == {"from": "deep"}
    Path("deep/parent.yaml").unlink()
    assert recipes.read(Path("deep/child.yaml")).values == {"from": "here"}


def test_packaged_names_are_bases_too() -> None:
    assert read(child="base: [presets/cpu]\ntrainer: {max_steps: 3}") == {
        "trainer": {"accelerator": "cpu", "devices": 1, "max_steps": 3}
    }


def test_arguments_stay_with_their_class_and_fall_away_with_another() -> None:
    parent = "model: {class_path: A, init_args: {x: 1, inner: {class_path: B, init_args: {y: 2}}}}"
    same = "base: parent.yaml\nmodel: {class_path: A, init_args: {x: 3}}"
    inner = {"class_path": "B", "init_args": {"y": 2}}
    assert read(same=same, parent=parent)["model"]["init_args"] == {"x": 3, "inner": inner}
    silent = "base: parent.yaml\nmodel: {init_args: {x: 3}}"
    assert read(silent=silent)["model"]["init_args"] == {"x": 3, "inner": inner}
    other = "base: parent.yaml\nmodel: {class_path: C, init_args: {z: 1}}"
    assert read(other=other)["model"] == {"class_path": "C", "init_args": {"z": 1}}
    deep = "base: parent.yaml\nmodel: {init_args: {inner: {class_path: D}}}"
    assert read(deep=deep)["model"]["init_args"] == {"x": 1, "inner": {"class_path": "D"}}


def test_lists_are_replaced_and_a_plus_appends() -> None:
    parent = "trainer: {callbacks: [a, b]}"
    assert read(child="base: parent.yaml\ntrainer: {callbacks: [c]}", parent=parent)["trainer"] == {
        "callbacks": ["c"]
    }
    for written in ("[c]", "c"):
        child = f"base: parent.yaml\ntrainer: {{callbacks+: {written}}}"
        assert read(child=child)["trainer"] == {"callbacks": ["a", "b", "c"]}


def test_a_plus_without_a_list_below_is_left_to_the_parser() -> None:
    assert read(child="trainer: {callbacks+: [c]}")["trainer"] == {"callbacks+": ["c"]}


def test_numbers_are_read_as_the_parser_reads_them() -> None:
    assert read(child="{lr: 1e-3, other: 3.0e-4, switch: true, text: off}") == {
        "lr": 1e-3, "other": 3e-4, "switch": True, "text": False,
    }  # fmt: skip


def test_every_key_knows_the_line_that_set_it_last() -> None:
    Path("parent.yaml").write_text("trainer:\n  max_steps: 2\n  callbacks:\n  - a: 1\n  - a: 2\n")
    Path("child.yaml").write_text("base: parent.yaml\n\ntrainer: {max_steps: 3}\n")
    recipe = recipes.read(Path("child.yaml"))
    assert recipe.place(("trainer", "max_steps")) == "child.yaml:3"
    assert recipe.place(("trainer", "callbacks", 1, "a")) == "parent.yaml:5"
    assert recipe.place(("trainer", "callbacks", 1, "a", "nothing")) == "parent.yaml:5"
    assert recipe.place(("nothing",)) is None


def test_a_key_twice_is_an_error_with_both_lines() -> None:
    assert refusal(twice="trainer:\n  max_steps: 1\n  devices: 1\n  max_steps: 2\n") == (
        "the key `max_steps` stands twice in one mapping, first on line 2\n"
        "  at    trainer.max_steps\n  in    twice.yaml:4\n  keep one of them"
    )


def test_a_key_twice_within_a_list_is_found() -> None:
    text = "callbacks:\n- class_path: A\n  init_args:\n    x: 1\n    x: 2\n"
    assert refusal(twice=text) == (
        "the key `x` stands twice in one mapping, first on line 4\n"
        "  at    callbacks.0.x\n  in    twice.yaml:5\n  keep one of them"
    )


def test_a_circle_of_bases_is_an_error_where_it_closes() -> None:
    assert refusal(one="a: 1\nbase: two.yaml", two="base:\n- three.yaml", three="base: one.yaml") == (
        "the recipe one.yaml is its own base\n  at    base\n  in    three.yaml:1\n  take it out of `base`"
    )
    assert refusal(own="base: own.yaml").splitlines()[0] == "the recipe own.yaml is its own base"


def test_one_base_may_be_met_twice() -> None:
    files = {"child": "base: [one.yaml, two.yaml]", "one": "base: root.yaml", "two": "base: root.yaml"}
    assert read(**files, root="a: 1") == {"a": 1}


def test_a_missing_base_is_named_with_its_line() -> None:
    assert refusal(child="base:\n- presets/cpu\n- presets/cpp\n") == (
        "no recipe `presets/cpp`, neither a file nor a packaged name\n"
        "  at    base\n  in    child.yaml:3\n  did you mean `presets/cpu`?"
    )


def test_an_empty_recipe_is_an_error() -> None:
    for text in ("", "# nothing\n", "---\n"):
        assert refusal(empty=text) == "the recipe empty.yaml is empty\n  in    empty.yaml:1"


def test_a_recipe_within_a_recipe_is_its_base() -> None:
    """Of what `config:` names, Lightning drops every group that stands beside it, too, silently."""
    assert refusal(flat="trainer: {max_steps: 7}\nconfig: other.yaml\n") == (
        "a recipe starts from others by `base`, got `config`\n  at    config\n  in    flat.yaml:2"
    )


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "3\n"])
def test_a_recipe_that_is_no_mapping_is_an_error(text: str) -> None:
    assert refusal(flat=text) == "the recipe flat.yaml is no mapping of keys\n  in    flat.yaml:1"


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "expected ',' or ']', but got ':'", 3),
        ("a: 1\n b: 2\n", "mapping values are not allowed here", 2),
        ("a:\n\t- 1\n", "found character '\\t' that cannot start any token", 2),
        ("a: 1\nb: !cat x\n", "could not determine a constructor for the tag '!cat'", 2),
        ("a: 1\nb: \x00\n", "unacceptable character #x0000: special characters are not allowed", 2),
        ("a: *b\n", "found undefined alias 'b'", 1),
    ],
)
def test_a_recipe_that_is_no_yaml_is_an_error_with_its_line(text: str, reason: str, line: int) -> None:
    assert refusal(broken=text) == f"the recipe is no YAML: {reason}\n  in    broken.yaml:{line}"


def test_a_recipe_in_another_encoding_is_an_error_with_its_line() -> None:
    Path("latin.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(RecipeError) as caught:
        recipes.read(Path("latin.yaml"))
    assert str(caught.value) == "the recipe is not UTF-8: byte 11\n  in    latin.yaml:2"


def test_packaged_names_resolve_like_paths() -> None:
    path = registry.recipe_path("quickstart/decoder")
    assert path.is_file()
    assert registry.recipe_path("quickstart/decoder.yaml") == registry.recipe_path(str(path)) == path
    Path("quickstart").mkdir()
    Path("quickstart/decoder").write_text("a: 1")
    assert registry.recipe_path("quickstart/decoder") == Path("quickstart/decoder")  # one's own comes first
