"""Plugins by their rules, with distributions made on the spot."""

import importlib
import itertools
import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo.decoders
import zoo.encoders
import zoo.heads
from zoo import registry
from zoo.errors import PluginLoadError, RecipeError, UnknownNameError

SPEC = """
from dataclasses import dataclass
from zoo.specs import DecoderSpec

@dataclass(frozen=True, kw_only=True)
class {name}(DecoderSpec):
    vocab_size: int = 8
    hidden_size: int = 4
    max_position_embeddings: int = 4
    num_hidden_layers: int = 1

    def build(self):
        raise NotImplementedError
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution with its modules into a folder of its own on sys.path."""
    tops: set[str] = set()

    def put(
        name: str,
        entry_points: str,
        modules: dict[str, str] | None = None,
        *,
        requires: str = "",
        version: str = "1.0",
        metadata: bytes | None = None,
        last: bool = False,
    ) -> Path:
        site = tmp_path / f"{name}-{version}"
        info = site / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        text += f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_bytes(text.encode() if metadata is None else metadata)
        (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        for path, content in (modules or {}).items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(content)
            tops.add(path.partition("/")[0].removesuffix(".py"))
        monkeypatch.syspath_prepend(site)
        if last:
            sys.path.append(sys.path.pop(0))
        importlib.invalidate_caches()
        registry.entries.cache_clear()
        return site

    yield put
    registry.entries.cache_clear()
    for module in list(sys.modules):
        if module.partition(".")[0] in tops:
            del sys.modules[module]


def states(group: str) -> dict[str, str]:
    return {entry.import_path: entry.state for entry in registry.in_group(group)}


# Names


def test_a_name_is_the_attribute_of_its_group() -> None:
    entry = next(entry for entry in registry.in_group("zoo.decoders") if entry.name == "llama")
    assert (entry.attribute, entry.import_path) == ("Llama", "zoo_decoders.llama.Llama")
    assert (entry.distribution, entry.state) == ("lightning-zoo", "ok")
    assert zoo.decoders.Llama is registry.family("llama")
    assert registry.path_of(zoo.decoders.Llama) == "zoo.decoders.Llama"
    assert registry.model_type_of(zoo.decoders.Llama) == "llama"
    assert "Llama" in dir(zoo.decoders)


def test_a_third_partys_name_works_like_a_first_partys(install: Install) -> None:
    install("cats", "[zoo.decoders]\ncat = cats.model:Cat", {"cats/model.py": SPEC.format(name="Cat")})
    assert zoo.decoders.Cat is registry.family("cat")
    assert registry.path_of(zoo.decoders.Cat) == "zoo.decoders.Cat"
    assert registry.model_type_of(zoo.decoders.Cat) == "cat"
    assert "Cat" in dir(zoo.decoders)


def test_an_entry_may_name_a_re_export(install: Install) -> None:
    modules = {"cats/__init__.py": "from cats.inner import Cat", "cats/inner.py": SPEC.format(name="Cat")}
    install("cats", "[zoo.decoders]\ncat = cats:Cat", modules)
    assert registry.path_of(zoo.decoders.Cat) == "zoo.decoders.Cat"
    assert registry.model_type_of(zoo.decoders.Cat) == "cat"


def test_one_class_may_serve_several_model_types(install: Install) -> None:
    entry_points = "[zoo.decoders]\ncat = cats:Cat\ntomcat = cats:Cat"
    install("cats", entry_points, {"cats.py": SPEC.format(name="Cat")})
    assert zoo.decoders.Cat is registry.family("cat") is registry.family("tomcat")
    assert dir(zoo.decoders).count("Cat") == 1


def test_an_unknown_name_answers_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        zoo.decoders.LLama2  # noqa: B018
    assert str(caught.value) == "unknown name `LLama2` in zoo.decoders\n  did you mean `Llama`?"


def test_an_unknown_name_without_a_near_one_answers_with_all() -> None:
    with pytest.raises(UnknownNameError) as caught:
        zoo.decoders.Zebra  # noqa: B018
    known = ", ".join(sorted(entry.attribute for entry in registry.in_group("zoo.decoders")))
    assert str(caught.value) == f"unknown name `Zebra` in zoo.decoders\n  known: {known}"


def test_an_unknown_model_type_answers_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry.family("lama")
    families = [entry.name for group in registry.FAMILIES for entry in registry.in_group(group)]
    message = (
        "no installed plugin registers the model_type `lama`\n"
        "  did you mean `llama`?\n"
        f"  registered: {', '.join(sorted(families))}\n"
        "  a plugin adds one by an entry point `lama` in one of zoo.encoders, zoo.decoders, "
        "zoo.encoder_decoders"
    )
    assert str(caught.value) == message


def test_a_group_behaves_as_a_module() -> None:
    assert not hasattr(zoo.decoders, "Zebra")
    assert not hasattr(zoo.decoders, "__wrapped__")
    assert getattr(zoo.decoders, "Zebra", None) is None


# Broken plugins

BROKEN = {
    "an import error": (
        "import nowhere_to_be_found",
        "ModuleNotFoundError: No module named 'nowhere_to_be_found'",
    ),
    "a syntax error": ("def (:", "SyntaxError: invalid syntax (broken.py, line 1)"),
    "an exit": ("raise SystemExit('bye')", "SystemExit: bye"),
    "an assertion": ("assert 1 == 2, 'no'", "AssertionError: no"),
    "a missing attribute": ("x = 1", "AttributeError: module 'broken' has no attribute 'Broken'"),
}


@pytest.mark.parametrize(("source", "cause"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_says_who_and_why_and_what_to_do(install: Install, source: str, cause: str) -> None:
    install("broken", "[zoo.decoders]\nbroken = broken:Broken", {"broken.py": source}, version="2.5")
    assert states("zoo.decoders")["broken.Broken"] == "ok"
    with pytest.raises(PluginLoadError) as caught:
        zoo.decoders.Broken  # noqa: B018
    assert str(caught.value) == (
        "`zoo.decoders.Broken` of plugin broken 2.5 (broken:Broken) cannot be imported: "
        f"{cause}\n  repair or remove it: pip uninstall broken"
    )
    with pytest.raises(PluginLoadError):
        registry.family("broken")


@pytest.mark.parametrize("source", [source for source, _ in BROKEN.values()], ids=BROKEN)
def test_a_broken_plugin_never_hides_another(install: Install, source: str) -> None:
    install("cats", "[zoo.decoders]\ncat = cats:Cat", {"cats.py": SPEC.format(name="Cat")})
    install("broken", "[zoo.decoders]\nbroken = broken:Broken", {"broken.py": source})
    assert {"cats.Cat", "broken.Broken", "zoo_decoders.llama.Llama"} <= states("zoo.decoders").keys()
    assert zoo.decoders.Cat.__name__ == registry.family("cat").__name__ == "Cat"
    assert zoo.decoders.Llama is registry.family("llama")


def test_listing_imports_no_plugin(install: Install) -> None:
    entry_points = "[zoo.heads]\nbroken = broken:Broken\n[zoo.recipes]\nmine = broken.recipes"
    modules = {"broken/__init__.py": "raise SystemExit", "broken/recipes/a/b.yaml": ""}
    install("broken", entry_points, modules)
    assert "broken.Broken" in states("zoo.heads")
    assert "mine/a/b" in registry.recipes()
    assert "Broken" in dir(zoo.heads)
    assert "broken" not in sys.modules


@pytest.mark.parametrize("value", ["cats", "cats:", ":Cat", "", "cats.Cat", "cats : Cat", "cats:Cat Dog"])
def test_a_malformed_entry_point_is_listed_and_refused(install: Install, value: str) -> None:
    install("cats", f"[zoo.decoders]\ncat = {value}\ndog = cats:Dog", {"cats.py": SPEC.format(name="Dog")})
    [entry] = [entry for entry in registry.in_group("zoo.decoders") if entry.name == "cat"]
    reason = f"its entry point must read `name = module:Attribute`, not `cat = {value}`"
    assert (entry.state, entry.reason, entry.remedy) == ("malformed", reason, "pip uninstall cats")
    with pytest.raises(PluginLoadError) as caught:
        registry.family("cat")
    assert caught.value.message.endswith(f"({value}) is malformed: {reason}")
    assert zoo.decoders.Dog is registry.family("dog")


def test_lines_that_are_no_entry_points_hide_nothing(install: Install) -> None:
    entry_points = "stray\n[console_scripts\nx\n[zoo.decoders]\n# cats\n\nnonsense\ncat = cats:Cat [extra]\n"
    install("cats", entry_points, {"cats.py": SPEC.format(name="Cat")})
    listed = {entry.name: entry.state for entry in registry.in_group("zoo.decoders")}
    assert listed["nonsense"] == "malformed"
    assert listed["cat"] == "ok"
    assert zoo.decoders.Cat.__name__ == "Cat"


@pytest.mark.parametrize("metadata", [b"", b"\xff\xfe\x00", b"Name: cats\n"])
def test_unreadable_metadata_hides_no_other_plugin(
    install: Install, metadata: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    install("cats", "[zoo.decoders]\ncat = cats:Cat", metadata=metadata)
    install("dogs", "[zoo.decoders]\ndog = dogs:Dog", {"dogs.py": SPEC.format(name="Dog")})
    assert registry.family("dog") is zoo.decoders.Dog
    zoo_list()
    assert "zoo.decoders.Dog" in capsys.readouterr().out


def zoo_list(*arguments: str) -> None:
    from zoo.cli import main

    main(["list", *arguments])


# Names that several claim


def test_the_same_name_and_value_twice_is_one(install: Install) -> None:
    module = {"cats.py": SPEC.format(name="Cat")}
    install("cats", "[zoo.decoders]\ncat = cats:Cat", module)
    install("cats-copy", "[zoo.decoders]\ncat = cats:Cat", last=True)
    install("cats", "[zoo.decoders]\ncat = cats:Cat", module, version="0.9")
    listed = [entry for entry in registry.in_group("zoo.decoders") if entry.name == "cat"]
    assert [(entry.distribution, entry.version, entry.state) for entry in listed] == [("cats", "0.9", "ok")]
    assert zoo.decoders.Cat is registry.family("cat")


@pytest.mark.parametrize(
    ("group", "entry"),
    [
        ("zoo.decoders", "other = cats:Llama"),
        *((group, "llama = cats:Cat") for group in registry.FAMILIES),  # a checkpoint finds one family alone
    ],
)
def test_a_first_party_name_cannot_be_shadowed(install: Install, group: str, entry: str) -> None:
    ours = registry.family("llama")
    install("cats", f"[{group}]\n{entry}", {"cats.py": SPEC.format(name=entry.rpartition(":")[2])})
    assert zoo.decoders.Llama is registry.family("llama") is ours
    [theirs] = [entry for entry in registry.entries() if entry.distribution == "cats"]
    assert theirs.state == "shadowed"
    assert theirs.reason == "lightning-zoo registers that name, too (zoo_decoders.llama.Llama)"
    assert theirs.remedy == f"use {theirs.import_path}"
    assert theirs.load().__module__ == "cats"  # the import path works


def test_a_shadowed_attribute_says_so(install: Install) -> None:
    install("cats", "[zoo.decoders]\nllama = cats:Cat", {"cats.py": SPEC.format(name="Cat")})
    with pytest.raises(UnknownNameError) as caught:
        zoo.decoders.Cat  # noqa: B018
    assert str(caught.value) == (
        "`zoo.decoders.Cat` of plugin cats 1.0 (cats:Cat) is shadowed: "
        "lightning-zoo registers that name, too (zoo_decoders.llama.Llama)\n  use cats.Cat"
    )


def two_cats(install: Install) -> None:
    for name in ("alley", "house"):
        install(name, f"[zoo.decoders]\ncat = {name}_cats:Cat", {f"{name}_cats.py": SPEC.format(name="Cat")})


def test_two_plugins_of_one_name_are_listed_and_the_bare_name_prints_both(install: Install) -> None:
    two_cats(install)
    clashing = {path: state for path, state in states("zoo.decoders").items() if path.endswith("Cat")}
    assert clashing == {"alley_cats.Cat": "clash", "house_cats.Cat": "clash"}
    paths = "\n  alley_cats.Cat of alley\n  house_cats.Cat of house"
    for name, use in (("Cat", lambda: zoo.decoders.Cat), ("cat", lambda: registry.family("cat"))):
        with pytest.raises(UnknownNameError) as caught:
            use()
        assert str(caught.value) == (
            f"`{name}` in zoo.decoders is claimed by several plugins; "
            f"name the one you mean by its import path{paths}"
        )


def test_import_paths_of_a_clash_work_and_are_written(install: Install) -> None:
    from zoo.specs import from_plain

    two_cats(install)
    for path in ("alley_cats.Cat", "house_cats.Cat"):
        spec = from_plain({"class_path": path, "init_args": {"hidden_size": 6}})
        assert spec.to_plain()["class_path"] == path
        assert from_plain(spec.to_plain()) == spec


def test_a_broken_rival_is_a_rival_and_an_incompatible_one_is_not(install: Install) -> None:
    install("cats", "[zoo.decoders]\ncat = cats:Cat", {"cats.py": SPEC.format(name="Cat")})
    install("old", "[zoo.decoders]\ncat = old:Cat", requires="lightning-zoo<0.0.1")
    assert zoo.decoders.Cat is registry.family("cat")
    install("broken", "[zoo.decoders]\ncat = broken:Cat", {"broken.py": "raise ValueError"})
    with pytest.raises(UnknownNameError, match="claimed by several plugins"):
        zoo.decoders.Cat  # noqa: B018


def test_what_is_listed_never_depends_on_the_order_of_sys_path(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_cats(install)
    entry_points = "[zoo.decoders]\ncat = alley_cats:Cat\nllama = x:Llama\n[zoo.recipes]\nmine = alley"
    install("copy", entry_points)
    install("old", "[zoo.decoders]\ncat = alley_cats:Cat", requires="lightning-zoo>99")
    install("copy", "[zoo.decoders]\ncat = alley_cats:Cat\n", version="2.0")
    *sites, rest = sys.path[:5], sys.path[5:]
    listings = []
    for order in itertools.permutations(sites[0]):
        for path in ([*order, *rest], [*rest, *order]):
            monkeypatch.setattr(sys, "path", path)
            registry.entries.cache_clear()
            listings.append(registry.entries())
    assert len({entry.distribution for entry in listings[0]} & {"alley", "house", "copy"}) == 3
    assert all(listing == listings[0] for listing in listings)


# Versions

REQUIREMENTS = ["lightning-zoo>99", "Lightning_Zoo<0.0.1", "lightning-zoo!=0.1.0,<0.2"]


@pytest.mark.parametrize("requires", REQUIREMENTS)
def test_a_plugin_for_another_version_is_listed_and_refused(install: Install, requires: str) -> None:
    from packaging.requirements import Requirement

    specifier = Requirement(requires).specifier
    install("cats", "[zoo.decoders]\ncat = cats:Cat", {"cats.py": "raise SystemExit"}, requires=requires)
    assert states("zoo.decoders")["cats.Cat"] == "incompatible"
    for use in (lambda: zoo.decoders.Cat, lambda: registry.family("cat")):
        with pytest.raises(PluginLoadError) as caught:
            use()
        assert str(caught.value) == (
            "`zoo.decoders.Cat` of plugin cats 1.0 (cats:Cat) is incompatible: "
            f"it needs lightning-zoo{specifier}, 0.1.0 is installed\n  pip install 'lightning-zoo{specifier}'"
        )
    assert "cats" not in sys.modules


@pytest.mark.parametrize(
    "requires",
    [
        "lightning-zoo>=0.1",
        "lightning-zoo",
        "other>99",
        "lightning-zoo>99; python_version<'3'",
        "@@ nonsense",
    ],
)
def test_a_requirement_that_is_met_or_says_nothing_excludes_nothing(install: Install, requires: str) -> None:
    install("cats", "[zoo.decoders]\ncat = cats:Cat", {"cats.py": SPEC.format(name="Cat")}, requires=requires)
    assert zoo.decoders.Cat is registry.family("cat")


# Recipes


def test_a_third_partys_recipes_resolve_by_name(install: Install) -> None:
    modules = {"cats/__init__.py": "", "cats/recipes/first.yaml": "a: 1", "cats/recipes/deep/er.yaml": "a: 2"}
    site = install("cats", "[zoo.recipes]\ncats = cats.recipes", modules)
    assert registry.recipe_path("cats/first") == site / "cats" / "recipes" / "first.yaml"
    assert registry.recipe_path("cats/deep/er.yaml") == site / "cats" / "recipes" / "deep" / "er.yaml"
    assert registry.recipe_path("quickstart/decoder").is_file()
    with pytest.raises(RecipeError) as caught:
        registry.recipe_path("cats/frist")
    assert str(caught.value) == (
        "no recipe `cats/frist`, neither a file nor a packaged name\n  did you mean `cats/first`?"
    )


def test_a_package_of_recipes_that_is_not_there_hides_no_other(install: Install) -> None:
    install("cats", "[zoo.recipes]\ncats = nowhere.recipes\ndogs = \nfish = ..x")
    assert "quickstart/decoder" in registry.recipes()


def test_recipes_that_two_plugins_claim_go_by_their_packages(install: Install) -> None:
    for name in ("alley", "house"):
        install(name, f"[zoo.recipes]\ncats = {name}_recipes", {f"{name}_recipes/tom.yaml": "a: 1"})
    assert {"alley_recipes/tom", "house_recipes/tom"} <= registry.recipes().keys()
    assert registry.recipe_path("house_recipes/tom").parent.name == "house_recipes"
    with pytest.raises(RecipeError) as caught:
        registry.recipe_path("cats/tom")
    assert str(caught.value) == (
        "the recipes `cats` are claimed by several plugins; name the one you mean by its package\n"
        "  alley_recipes/tom of alley\n  house_recipes/tom of house"
    )


def test_a_first_partys_recipes_cannot_be_shadowed(install: Install) -> None:
    ours = registry.recipe_path("quickstart/decoder")
    install("cats", "[zoo.recipes]\nquickstart = cats_recipes", {"cats_recipes/decoder.yaml": "a: 1"})
    assert registry.recipe_path("quickstart/decoder") == ours
    assert registry.recipe_path("cats_recipes/decoder") != ours


# Light verbs, in a process of their own


def fresh(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=True
    )


LIGHT = [[], ["list"], ["list", "--json"], ["--help"], ["--version"]]


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_verbs_import_no_torch(arguments: list[str]) -> None:
    code = """
import sys, zoo
if sys.argv[1:]:
    from zoo.cli import main
    main(sys.argv[1:])
heavy = {"torch", "lightning", "jsonargparse", "transformers", "torchmetrics", "datasets", "numpy"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""
    assert bool(fresh(code, *arguments).stdout) == bool(arguments)


def test_listing_takes_no_third_of_a_second() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        fresh("from zoo.cli import main; main(['list'])")
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) <= 0.3


def test_the_plugin_that_does_not_fit_is_listed_with_its_remedy(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("cats", "[zoo.heads]\ncat = cats:Cat", requires="lightning-zoo>99")
    zoo_list("heads", "plugins", "--json")
    listed: dict[str, list[dict[str, Any]]] = json.loads(capsys.readouterr().out)
    reason = "it needs lightning-zoo>99, 0.1.0 is installed; pip install 'lightning-zoo>99'"
    row = {"plugin": "cats 1.0", "state": "incompatible", "reason": reason}
    assert {"name": "zoo.heads.Cat", "entry": "cat", **row} in listed["heads"]
    plugin = {"name": "cats", "version": "1.0", "state": "incompatible", "registers": "cat", "reason": reason}
    assert plugin in listed["plugins"]
