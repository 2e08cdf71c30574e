"""What is trained on and what is held out have no row in common, or that is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from zoo.data import Text, TextClassification, TextPairs
from zoo.data.splitting import apart


def written(folder: Path, **parts: list[str]) -> str:
    folder.mkdir(exist_ok=True)
    for name, texts in parts.items():
        rows = [json.dumps({"text": text, "label": "ab"[number % 2]}) for number, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    return str(folder)


@pytest.mark.parametrize("kind", [TextClassification, Text])
def test_held_out_rows_that_are_trained_on_are_told(
    kind: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path, train=[f"text {n}" for n in range(20)], dev=["new", "text 3", "text 7"])
    data = kind(folder, validation="validation", vocab_size=300)
    data.setup("fit")
    data.setup("fit")
    assert capsys.readouterr().err == (
        "zoo: 2 of 3 held-out rows stand in the training data, too\n"
        f"  the first: {tmp_path}/dev.jsonl:2 and {tmp_path}/train.jsonl:4\n"
        "  leave them out of one side, or name no `validation`: then equal rows stay together\n"
    )


def test_of_apart_rows_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path, train=[f"text {n}" for n in range(20)], dev=["text", "text 30"])
    TextClassification(folder, validation="validation", vocab_size=300).setup("fit")
    assert capsys.readouterr().err == ""


def test_equal_rows_stay_on_one_side_whatever_is_held_out() -> None:
    items = [f"text {number % 50}" for number in range(200)]
    for fraction in (0.05, 0.3, 0.9):
        training, held_out = apart(items, str, fraction)
        assert not set(training) & set(held_out)
        assert len(training) + len(held_out) == len(items)


def test_a_pair_leaks_by_what_is_read_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rows in {"train": [("a", "b"), ("c", "d")], "dev": [("e", "b"), ("c", "d")]}.items():
        lines = [json.dumps({"input": one, "target": other}) for one, other in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    TextPairs(str(tmp_path), validation="validation").examples()
    assert capsys.readouterr().err.startswith(
        "zoo: 1 of 2 held-out rows stand in the training data, too\n  the first: `c` and `c`\n"
    )
