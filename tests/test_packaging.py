"""The wheel behaves as the editable install does, from an empty folder."""

import json
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

Shell = Callable[..., str]


@pytest.fixture(scope="module")
def installed(wheel: Path, shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; its dependencies are those of this one, by links, the zoo left out."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home / "venv", with_pip=False)
    python = home / "venv" / "bin" / "python"
    ours = Path(sysconfig.get_path("purelib"))
    theirs = Path(
        shell(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
    )
    for path in ours.iterdir():
        if "lightning_zoo" not in path.name:
            (theirs / path.name).symlink_to(path)
    shell(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=home)
    return home / "venv" / "bin" / "zoo"


def test_the_wheel_holds_the_zoo_its_families_and_its_recipes_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "zoo",
        "zoo_encoders",
        "zoo_decoders",
        "zoo_encoder_decoders",
        "zoo_recipes",
        wheel.name.split("-py3")[0] + ".dist-info",
    }
    assert {"zoo/py.typed", "zoo_decoders/llama.py", "zoo_recipes/quickstart/decoder.yaml"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_and_editable_install_list_the_same(installed: Path, shell: Shell, tmp_path: Path) -> None:
    listed = json.loads(shell(installed, "list", "--json", cwd=tmp_path))
    beside = Path(sys.executable).with_name("zoo")
    expected = json.loads(shell(beside, "list", "--json", cwd=tmp_path))
    places = [recipe.pop("path") for recipe in listed["recipes"]]
    assert all(str(installed.parents[1]) in place for place in places), places
    for recipe in expected["recipes"]:
        assert Path(recipe.pop("path")).is_relative_to(ROOT)
    assert listed == expected


def test_a_packaged_recipe_runs_from_an_empty_folder(installed: Path, shell: Shell, tmp_path: Path) -> None:
    short = ("--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1")
    shown = shell(installed, "fit", "--config", "quickstart/decoder", *short, cwd=tmp_path)
    assert "Trained a model of" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert list(tmp_path.rglob("last.ckpt"))


@pytest.mark.slow
def test_the_wheel_runs_with_dependencies_of_its_own(wheel: Path, shell: Shell, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    bin_ = tmp_path / "venv" / "bin"
    shell(bin_ / "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "zoo.decoders.Llama" in shell(bin_ / "zoo", "list", cwd=empty)
    assert "The recipe holds." in shell(bin_ / "zoo", "check", "quickstart/decoder", cwd=empty)


@pytest.mark.slow
def test_the_two_commands_set_everything_up_in_a_fresh_clone(shell: Shell, tmp_path: Path) -> None:
    shell("git", "clone", "--quiet", ROOT, tmp_path / "clone", cwd=tmp_path)
    shown = shell("make", "demo", cwd=tmp_path / "clone", ZOO_CACHE=str(tmp_path / "cache"))
    bits = dict(line.strip("│ ").split("│")[:2] for line in shown.splitlines() if line.count("│") == 3)
    measured = {name.strip(): float(value) for name, value in bits.items()}
    assert measured["this model"] < 0.8 * measured["unigram"]
    assert "what it writes" in shown
    shell("make", "test", cwd=tmp_path / "clone")
