"""A real plugin: built, installed, checked, trained, pushed; its model is pulled elsewhere, or refused."""

import json
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from .loopback import TOKEN, Loopback

PLUGIN = Path(__file__).parents[2] / "fixtures" / "zoo-alibi"
NAME = "me/alibi"
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


def test_a_strangers_plugin_has_what_first_party_ones_have(
    wheel: Path, plugin: Path, environment: Environment, shell: Shell, tmp_path: Path
) -> None:
    mine = environment("mine", wheel, plugin)
    report = json.loads(shell(mine / "zoo", "plugin", "check", "zoo-alibi", "--json", cwd=tmp_path))
    assert report["conforms"]
    shell(mine / "zoo", "fit", "--config", "zoo-alibi/tiny", "--trainer.max_steps=2", cwd=tmp_path)
    (checkpoint,) = tmp_path.rglob("last.ckpt")

    theirs, nobodys = environment("theirs", wheel, plugin), environment("nobodys", wheel)
    load = "import sys, zoo\ntry:\n    zoo.load(sys.argv[1])\nexcept Exception as error:\n    print(error)"
    with Loopback() as hub:

        def online(command: Path, *words: str | Path) -> str:
            """What a command prints, on a machine that has nothing of the Hub yet."""
            home = tmp_path / f"home-of-{command.parts[-3]}"
            return shell(
                command, *words, cwd=tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0", HF_TOKEN=TOKEN,
                HF_HOME=str(home), ZOO_CACHE=str(home / "zoo"), HF_HUB_DISABLE_XET="1",
                HF_HUB_DISABLE_TELEMETRY="1",
            )  # fmt: skip

        online(mine / "zoo", "push", checkpoint, NAME)
        config = json.loads(hub.read(NAME, "config.json"))
        assert (config["model_type"], config["architectures"]) == (
            "talking_alibi",
            ["TalkingAlibiForFocalLM"],
        )
        assert b"zoo-alibi" in hub.read(NAME, "README.md")

        online(theirs / "zoo", "pull", NAME)
        assert online(theirs / "zoo", "generate", NAME, "def ", "--max-new-tokens", "4")

        told = online(nobodys / "python", "-c", load, NAME)
    assert told.startswith("no installed plugin registers the model_type `talking_alibi`\n")
    assert "a plugin adds one by an entry point `talking_alibi` in one of zoo.encoders, zoo.decoders" in told
    told = shell(nobodys / "python", "-c", load, checkpoint, cwd=tmp_path)
    made_with = f"{checkpoint} was made with zoo-alibi 0.1.0, which is not installed"
    assert told == f"{made_with}\n  pip install zoo-alibi==0.1.0\n"
