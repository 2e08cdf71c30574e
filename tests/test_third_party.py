"""A real plugin: built, installed, checked, trained; its model goes on elsewhere, or is refused."""

import json
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "fixtures" / "zoo-alibi"
Shell = Callable[..., str]
Environment = Callable[..., Path]

pytestmark = pytest.mark.slow


@pytest.fixture
def plugin(shell: Shell, tmp_path: Path) -> Path:
    """The plugin's wheel."""
    pip = ("python", "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    python = Path(sysconfig.get_path("scripts")) / "python"
    shell(
        python, *pip[1:], "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, PLUGIN, cwd=tmp_path
    )
    (path,) = tmp_path.glob("zoo_alibi-*.whl")
    return path


@pytest.fixture
def environment(shell: Shell, tmp_path: Path) -> Environment:
    """Makes an environment with some wheels; what these need is linked from this one, the zoo left out."""

    def make(name: str, *wheels: Path) -> Path:
        home = tmp_path / name
        venv.create(home, with_pip=False)
        python = home / "bin" / "python"
        where = shell(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path)
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if "lightning_zoo" not in path.name:
                (Path(where.strip()) / path.name).symlink_to(path)
        shell(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", *wheels, cwd=tmp_path)
        return home / "bin"

    return make


def test_a_strangers_plugin_has_what_first_party_ones_have(
    wheel: Path, plugin: Path, environment: Environment, shell: Shell, tmp_path: Path
) -> None:
    mine = environment("mine", wheel, plugin)
    report = json.loads(shell(mine / "zoo", "plugin", "check", "zoo-alibi", "--json", cwd=tmp_path))
    assert report["conforms"]
    shell(mine / "zoo", "fit", "--config", "zoo-alibi/tiny", "--trainer.max_steps=2", cwd=tmp_path)
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    shell(mine / "zoo", "export", checkpoint, tmp_path / "model", cwd=tmp_path)

    theirs = environment("theirs", wheel, plugin)
    shown = shell(
        theirs / "zoo", "generate", tmp_path / "model", "def ", "--max-new-tokens", "4", cwd=tmp_path
    )
    assert shown

    nobodys = environment("nobodys", wheel)
    code = "import sys, zoo\ntry:\n    zoo.load(sys.argv[1])\nexcept Exception as error:\n    print(error)"
    told = shell(nobodys / "python", "-c", code, tmp_path / "model", cwd=tmp_path)
    assert told.startswith("no installed plugin registers the model_type `talking_alibi`\n")
    assert "a plugin adds one by an entry point `talking_alibi` in one of zoo.encoders, zoo.decoders" in told
    told = shell(nobodys / "python", "-c", code, checkpoint, cwd=tmp_path)
    made_with = f"{checkpoint} was made with zoo-alibi 0.1.0, which is not installed"
    assert told == f"{made_with}\n  pip install zoo-alibi==0.1.0\n"
