"""From conversations over preferences to a chat: each recipe begins with the model that the last one made."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo

from .conftest import SENTENCES, small_model

NUM_ROWS = 24


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_model_learns_to_answer_then_what_is_preferred_and_then_talks(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = [f"{SENTENCES[number % len(SENTENCES)]} {number}" for number in range(NUM_ROWS)]
    chats = write(tmp_path / "chats.jsonl", [{"prompt": text, "response": text[::-1]} for text in asked])
    pairs = write(
        tmp_path / "pairs.jsonl", [{"prompt": text, "chosen": text[::-1], "rejected": "no"} for text in asked]
    )

    def trained(recipe: str, backbone: Path, source: str, *flags: str) -> Path:
        done = command(
            "fit", "--config", f"chat/{recipe}", "--config", "presets/cpu", "--model.backbone", str(backbone),
            "--data.source", source, "--data.max_length", "96", "--data.batch_size", "2",
            "--trainer.max_steps", "3", "--trainer.enable_progress_bar", "false", *flags,
        )  # fmt: skip
        assert done.code == 0, done.err
        checkpoint = max(tmp_path.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
        folder = tmp_path / recipe
        assert command("export", str(checkpoint), str(folder)).code == 0
        return folder

    learnt = trained("sft", small_model("DecoderModule", tmp_path / "base"), chats, "--data.row_tokens", "96")
    judge = zoo.load(trained("reward", learnt, pairs), head=zoo.heads.Reward())
    preferred = trained("dpo", learnt, pairs)

    said = [{"role": "user", "content": "who"}, {"role": "assistant", "content": "I"}]
    (opinion,) = judge.predict([said])
    assert isinstance(opinion["score"], float)
    assert (preferred / "chat_template.jinja").read_text() == (learnt / "chat_template.jinja").read_text()
    monkeypatch.setattr(sys, "stdin", io.StringIO("the cat\n/quit\n"))
    talked = command("chat", str(preferred), "--max-new-tokens", "8", "--seed", "0")
    assert (talked.code, talked.err) == (0, "")
    assert talked.out.endswith("\n")
