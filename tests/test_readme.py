"""What the README promises is run: its commands, its recipe, its Python, its plugin."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from zoo import registry
from zoo.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
SHORT = [
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
    "--trainer.enable_progress_bar=false",
]


def blocks(language: str, section: str) -> list[str]:
    """Code blocks of one language under one heading."""
    body = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)


def commands(section: str) -> list[list[str]]:
    lines = "".join(blocks("sh", section)).splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def run(words: list[str]) -> None:
    assert words[0] == "zoo"
    main(words[1:] + (SHORT if words[1] == "fit" else []))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with some texts and the README's recipe."""
    home = tmp_path_factory.mktemp("readme")
    (home / "my-texts").mkdir()
    for number, path in enumerate(sorted((ROOT / "zoo").rglob("*.py"))):
        (home / "my-texts" / f"{number}.py").write_text(path.read_text("utf-8"), "utf-8")
    (recipe,) = blocks("yaml", "A recipe")
    (home / "my-recipe.yaml").write_text(recipe, "utf-8")
    return home


def test_the_commands_of_a_first_hour_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for words in commands("The `zoo` command"):
        run(words)
    assert (folder / "runs" / "quickstart-decoder" / "version_0" / "config.yaml").is_file()


def test_the_recipe_trains_and_its_commands_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    for words in commands("A recipe"):
        run(words)
    assert "def read" in capsys.readouterr().out
    transformers.AutoModelForCausalLM.from_pretrained("my-model")


def test_the_python_runs_as_it_stands(folder: Path) -> None:
    (code,) = blocks("python", "From Python")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    transformers.AutoModelForCausalLM.from_pretrained(folder / "my-model")


def test_the_plugin_is_registered_by_its_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks("python", "A plugin in 20 lines")
    assert len([line for line in code.splitlines() if line.strip()]) <= 21
    (tmp_path / "attention_only.py").write_text(code, "utf-8")
    (project,) = blocks("toml", "A plugin in 20 lines")
    installed = tmp_path / "zoo_attention_only-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-attention-only\nVersion: 0.1\n")
    (line,) = re.findall(r'^attention_only = "(.*)"$', project, re.MULTILINE)
    (group,) = re.findall(r'^\[project.entry-points."(.*)"\]$', project, re.MULTILINE)
    (installed / "entry_points.txt").write_text(f"[{group}]\nattention_only = {line}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(folder)
    registry.entries.cache_clear()
    try:
        listed, checked = commands("A plugin in 20 lines")
        run([*listed, "--json"])
        rows = json.loads(capsys.readouterr().out)["families"]
        assert {"zoo.decoders.AttentionOnly": "ok"}.items() <= {
            row["name"]: row["state"] for row in rows
        }.items()
        run(checked)
        assert "The recipe holds." in capsys.readouterr().out
        run(["zoo", "fit", *checked[3:], "--config", checked[2]])
        checkpoint = sorted(folder.glob("runs/my-recipe/*/checkpoints/last.ckpt"), key=os.path.getmtime)[-1]
        run(["zoo", "generate", str(checkpoint), "def "])
    finally:
        registry.entries.cache_clear()


def test_the_tree_names_what_is_there() -> None:
    (tree,) = blocks("", "The tree")
    named = [line.split()[0] for line in tree.splitlines() if line.strip()]
    inside = [line.split()[0] for line in tree.splitlines() if line.startswith("  ") and "…" not in line]
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "zoo" / name).exists(), name
    shown = {name.rstrip("/") for name in inside}
    missing = {
        path.name for path in (ROOT / "zoo").iterdir() if path.is_dir() and path.name != "__pycache__"
    } - shown
    assert not missing, f"the README's tree lacks {missing}"
