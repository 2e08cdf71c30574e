"""docs/tutorial.md, run as a reader would: its files, its commands, and what it says that they print."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text("utf-8")
TITLED = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = "".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)).splitlines()
CHECK = "zoo plugin check parallel-lm --fast"
SHORT = ["--trainer.limit_train_batches=3", "--trainer.limit_val_batches=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, installed: Any) -> Iterator[Path]:
    """The reader's folder with the files of the page, installed."""
    home = tmp_path_factory.mktemp("tutorial")
    for name, text in TITLED.items():
        if "." in name:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text, "utf-8")
    (home / "parallel_lm" / "recipes" / "__init__.py").touch()
    with installed(home / "site", home):
        yield home


@pytest.fixture
def told(folder: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """What a line of the page prints."""
    monkeypatch.chdir(folder)

    def told(line: str) -> str:
        words, _, target = line.partition(" > ")
        outcome = command(*shlex.split(words)[1:], *(SHORT if words.startswith("zoo fit") else []))
        assert outcome.code == 0, outcome
        if target:
            Path(target).write_text(outcome.out, "utf-8")
        return str(outcome.out)

    return told


def test_its_commands_run(told: Callable[[str], str], folder: Path) -> None:
    """All but the check, which takes longer, and pip, whose work is done."""
    printed = {line: told(line) for line in COMMANDS if line.startswith("zoo") and line != CHECK}
    assert "ParallelLM" in printed["zoo list families"]
    assert "The recipe holds." in printed["zoo check parallel-lm/tiny"]
    assert '"model_type": "parallel_lm"' in (folder / "my-model" / "config.json").read_text("utf-8")


@pytest.mark.slow
def test_its_check_says_what_the_page_says(told: Callable[[str], str]) -> None:
    assert told(CHECK).splitlines()[-1] == TITLED["zoo plugin check"].strip()


def fresh(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *words], cwd=folder, text=True, capture_output=True, timeout=500, check=False,
        env={**os.environ, "PYTHONPATH": str(folder / "site")},
    )  # fmt: skip


@pytest.mark.slow
def test_its_test_passes_and_its_mistake_is_found(folder: Path) -> None:
    done = fresh(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "tests")
    assert done.returncode == 0, done.stdout
    model = folder / "parallel_lm" / "model.py"  # the folder that one is in comes first
    text = model.read_text("utf-8")
    model.write_text(text.replace("        mask = mask.causal()\n", ""), "utf-8")
    done = fresh(folder, "-m", *shlex.split(CHECK))
    model.write_text(text, "utf-8")
    assert done.returncode == 1
    assert TITLED["without the line"] in done.stdout
