"""`zoo plugin new`: what it writes works as it stands, for every shape and kind."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.cli.scaffolding import KINDS, SHAPES, TEMPLATES

NAMES = {template: f"acme-{template}" for template in (*SHAPES, *KINDS)}

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin of every template."""
    from zoo.cli import main

    folder = tmp_path_factory.mktemp("made")
    for template, name in NAMES.items():
        main(
            [
                "plugin",
                "new",
                name,
                "--shape" if template in SHAPES else "--kind",
                template,
                "--to",
                str(folder),
            ]
        )
    return folder


@pytest.fixture(scope="module")
def site(made: Path, tmp_path_factory: pytest.TempPathFactory, installed: Any) -> Iterator[Path]:
    """All of them installed, in a folder of its own on sys.path."""
    folder = tmp_path_factory.mktemp("site")
    with installed(folder, *(made / name for name in NAMES.values())):
        yield folder


def test_a_family_is_a_package_of_a_few_files(made: Path) -> None:
    folder = made / "acme-encoder"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        ".github/workflows/ci.yml", ".gitignore", "README.md", "acme_encoder/__init__.py",
        "acme_encoder/model.py", "acme_encoder/recipes/__init__.py", "acme_encoder/recipes/tiny.yaml",
        "pyproject.toml", "tests/test_acme_encoder.py",
    }  # fmt: skip
    own = ["acme_encoder/model.py", "pyproject.toml"]
    assert sum(len((folder / name).read_text().splitlines()) for name in own) <= 150


def test_no_slot_is_left_open(made: Path) -> None:
    for path in (path for path in made.rglob("*") if path.is_file()):
        assert not re.search(r"your.?plugin|# entry points", path.read_text(), re.IGNORECASE), path
    for path in made.rglob("*.yml"):
        assert yaml.safe_load(path.read_text())["jobs"].keys() == {"test", "publish"}


def test_editors_look_for_the_schema_where_the_readme_has_it_written(made: Path) -> None:
    recipes = list(made.glob("*/*/recipes/*.yaml"))
    assert {path.parts[len(made.parts)] for path in recipes} == set(NAMES.values())
    for path in recipes:
        folder = made / path.parts[len(made.parts)]
        target = path.read_text("utf-8").splitlines()[0].removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / target).resolve() == folder / "recipe.schema.json"
        assert "zoo schema > recipe.schema.json" in (folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize("template", NAMES)
def test_what_is_written_is_listed_and_conforms(site: Path, template: str, command: Any) -> None:
    listed = json.loads(command("list", "plugins", "--json").out)["plugins"]
    (row,) = [row for row in listed if row["name"] == NAMES[template]]
    assert (row["version"], row["state"]) == ("0.1.0", "ok")
    outcome = command("plugin", "check", NAMES[template], "--fast")
    assert outcome.code == 0, outcome.out
    assert outcome.out.splitlines()[-1].startswith(f"{NAMES[template]} 0.1.0 conforms (api 1): ")


@pytest.mark.slow
@pytest.mark.parametrize("template", NAMES)
def test_from_the_command_to_green_takes_less_than_five_minutes(
    template: str, wheel: Path, environment: Any, shell: Any, tmp_path: Path
) -> None:
    """In a clean environment with the wheel; time is that of processors, whoever else they serve."""
    home, name, before = environment("clean", wheel), NAMES[template], os.times()
    kind = "--shape" if template in SHAPES else "--kind"
    shell(home / "zoo", "plugin", "new", name, kind, template, cwd=tmp_path)
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-e", name)
    shell(home / "python", *pip, cwd=tmp_path)
    assert name in shell(home / "zoo", "list", "plugins", cwd=tmp_path)
    shell(home / "zoo", "fit", "--config", f"{name}/tiny", cwd=tmp_path)
    assert list(tmp_path.glob("runs/**/last.ckpt"))
    report = json.loads(shell(home / "zoo", "plugin", "check", name, "--json", cwd=tmp_path))
    assert report["conforms"]
    outcomes = [one for section in report["sections"] for one in section["outcomes"]]
    skipped = {one["check"] for one in outcomes if one["state"] == "skipped"}
    assert skipped <= {
        "cached_equals_uncached", "it_writes_alone_what_it_writes_in_a_batch",  # an encoder
        "transformers_loads_what_it_saves", "it_equals_the_authors_reference",
    }  # fmt: skip
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 300
    shell(home / "python", "-m", "pytest", "-m", "not slow", cwd=tmp_path / name)


RULE = "a plugin is named by small letters, digits and dashes"
NAMES_REFUSED = {
    "AcmeBert": f"{RULE}, got `AcmeBert`\n  did you mean `acme-bert`?",
    "acme_bert": f"{RULE}, got `acme_bert`\n  did you mean `acme-bert`?",
    "../x": f"{RULE}, got `../x`\n  did you mean `x`?",
    "1st": f"{RULE}, got `1st`\n  as acme-bert",
    "bert": "`bert` is registered in zoo.encoders by lightning-zoo\n  did you mean `acme-bert`?",
    "json": "`json` is a word of Python's own\n  did you mean `acme-json`?",
    "class": "`class` is a word of Python's own\n  did you mean `acme-class`?",
    "torch": "a module `torch` is installed already\n  did you mean `acme-torch`?",
}


@pytest.mark.parametrize("name", NAMES_REFUSED)
def test_a_name_that_cannot_be_is_refused(name: str, command: Any, tmp_path: Path) -> None:
    outcome = command("plugin", "new", name, "--shape", "encoder", "--to", str(tmp_path))
    assert (outcome.code, outcome.err) == (2, f"zoo: {NAMES_REFUSED[name]}\n")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(command: Any, tmp_path: Path) -> None:
    (tmp_path / "acme-x").mkdir()
    outcome = command("plugin", "new", "acme-x", "--shape", "decoder", "--to", str(tmp_path))
    told = f"zoo: {tmp_path / 'acme-x'} is there already\n  choose another name, or another folder by --to\n"
    assert (outcome.code, outcome.err) == (2, told)
    assert not list((tmp_path / "acme-x").iterdir())
    outcome = command("plugin", "new", "acme-x", "--shape", "decoder", "--to", str(tmp_path / "no"))
    assert outcome.err == f"zoo: there is no folder {tmp_path / 'no'}\n  make it first\n"


@pytest.mark.parametrize("flags", [[], ["--shape", "encoder", "--kind", "head"]])
def test_shape_or_kind_must_be_said_and_not_both(flags: list[str], command: Any) -> None:
    outcome = command("plugin", "new", "acme-x", *flags)
    assert outcome.err == (
        "zoo: zoo plugin new: say either --shape, for a family, or --kind\n"
        "  `zoo plugin new --help` lists what it takes\n"
    )


def test_a_plugin_that_is_not_installed_cannot_be_checked(command: Any) -> None:
    outcome = command("plugin", "check", "lightning-zooo")
    told = "no plugin `lightning-zooo` is installed\n  pip install it first\n  did you mean `lightning-zoo`?"
    assert (outcome.code, outcome.err) == (2, f"zoo: {told}\n")
    outcome = command("plugin", "chekc")
    assert outcome.err == "zoo: unknown command `zoo plugin chekc`\n  did you mean `check`?\n"
    assert command("plugin").out.startswith("zoo plugin new NAME --shape")


def test_templates_are_all_there() -> None:
    assert {path.name for path in TEMPLATES.iterdir()} - {"__pycache__"} == {*NAMES, "common"}
