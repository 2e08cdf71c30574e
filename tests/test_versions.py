"""The ranges of pyproject.toml hold: the suite's core passes with the oldest and the newest releases."""

import importlib.metadata
import re
import sys
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
REFERENCE = next(line for line in PROJECT["optional-dependencies"]["dev"] if "transformers" in line)
RANGES = {each.name: each for each in map(Requirement, [*PROJECT["dependencies"], REFERENCE])}
PINS = dict(re.findall(r"^(.+)==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
CORE = (
    "plugins",
    "recipes/test_packaged_recipes.py",
    "zoo/cli",
    "zoo/hub",
    "zoo/modules",
    "zoo/training",
    "zoo/test_registry.py",
)

Shell = Callable[..., str]


def lowest(name: str) -> str:
    (bound,) = (part.version for part in RANGES[name].specifier if part.operator == ">=")
    return bound


SETS: dict[str, dict[str, str]] = {"lowest": {name: lowest(name) for name in RANGES}, "newest": {}}
"""The releases that pip may not choose for itself."""


def link_torch(python: Path) -> None:
    """Gives an environment the torch of this one: another would be gigabytes."""
    torch = importlib.metadata.distribution("torch")
    (purelib,) = python.parents[1].glob("lib/python*/site-packages")
    for top in {path.parts[0] for path in torch.files or () if path.parts[0] != ".."}:
        (purelib / top).symlink_to(Path(str(torch.locate_file(top))).resolve())


def passes(shell: Shell, home: Path, wheel: Path, releases: dict[str, str], torch: str | None = None) -> None:
    """Installs the wheel in an environment of its own and runs the core of the suite there."""
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / "bin" / "python"
    if torch is None:
        link_torch(python)
    tools = {name: version for name, version in PINS.items() if name not in RANGES}
    chosen = {**tools, **releases, "torch": torch or PINS["torch"]}
    constraints = home / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in chosen.items()), "utf-8")
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    shell(*pip, "-c", constraints, f"{wheel}[dev]", cwd=home)
    where = shell(python, "-c", "import zoo; print(zoo.__file__)", cwd=home)
    assert Path(where.strip()).is_relative_to(home)
    suite = ("-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider", "-m", "not slow and not gpu")
    shell(python.with_name("pytest"), *suite, *(ROOT / "tests" / name for name in CORE), cwd=home)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_the_core_of_the_suite_passes_with_the_releases_of_a_set(
    name: str, shell: Shell, wheel: Path, tmp_path: Path
) -> None:
    passes(shell, tmp_path, wheel, SETS[name])


@pytest.mark.slow
def test_the_core_of_the_suite_passes_with_the_oldest_torch(
    shell: Shell, wheel: Path, tmp_path: Path
) -> None:
    # On Linux the registry's own builds bring CUDA with them; those without it are marked so.
    marked = r"\+cpu" if sys.platform == "linux" else ""
    listed = shell(sys.executable, "-m", "pip", "index", "versions", "torch", cwd=tmp_path)
    found = re.search(rf"\b{re.escape(lowest('torch'))}(\.\d+)*{marked}(?=,|\s)", listed)
    if found is None:
        pytest.skip(f"no torch {lowest('torch')} without CUDA is to be had here")
    passes(shell, tmp_path, wheel, {name: PINS[name] for name in RANGES if name in PINS}, torch=found[0])
