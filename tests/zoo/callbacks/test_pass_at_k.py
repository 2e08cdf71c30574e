"""Programs that are written in validation are run with their tests."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zoo.callbacks import PassAtK
from zoo.callbacks.pass_at_k import code_in
from zoo.data import Conversations
from zoo.errors import SpecError


def test_programs_are_counted_by_their_tests(tmp_path: Path) -> None:
    tests = ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]
    rows = [{"text": f"add {number}", "code": "…", "test_list": tests} for number in range(30)]
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Conversations(str(path), question="text", answer="code", tests="test_list")
    callback = PassAtK(ks=[1, 2], num_programs=2)
    questions = callback.questions(data)[:2]
    assert [test for _, test in questions] == ["\n".join(tests)] * 2
    right, wrong = "```python\ndef add(a, b):\n    return a + b\n```", "def add(a, b):\n    return a"
    model: Any = SimpleNamespace(generate=lambda texts, **_: [right, wrong, wrong, wrong])
    assert callback.measured(model, questions, "head") == {"pass@1": 0.25, "pass@2": 0.5}


def test_code_stands_between_fences_or_alone() -> None:
    assert code_in("Here:\n```python\nx = 1\n```\nDone.") == "x = 1\n"
    assert code_in("```\nx = 1") == "x = 1"
    assert code_in("x = 1") == "x = 1"


def test_fewer_programs_than_k_are_refused() -> None:
    with pytest.raises(SpecError, match="`num_programs` must be at least 10, got 5"):
        PassAtK(ks=[1, 10])
