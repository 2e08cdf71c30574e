"""Programs are run apart, whatever they do; pass@k is human-eval's."""

import time
from pathlib import Path

import pytest

from zoo.programs import Limits, pass_at_k, passes

SHORT = Limits(seconds=2, memory_bytes=256 << 20)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("def add(a, b):\n    return a + b\nassert add(1, 2) == 3", True),
        ("import math, collections, re\nassert math.gcd(4, 6) == 2\nprint('told')", True),
        ("open('mine.txt', 'w').write('x')\nassert open('mine.txt').read() == 'x'", True),
        ("assert 1 == 2", False),
        ("def broken(:", False),
        ("raise SystemExit(0)", False),
        ("import os\nos._exit(0)", False),
    ],
)
def test_a_program_passes_that_reaches_its_end(program: str, expected: bool) -> None:
    assert passes(program, SHORT) is expected


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "kept = []\nwhile True: kept.append(bytes(1 << 20))",
        "open('large', 'wb').write(bytes(8 << 20))",
        "import socket\nsocket.create_connection(('127.0.0.1', 9))",
        "import subprocess\nsubprocess.run(['true'])",
        "import os\nos.fork()",
        "import os\nos.system('true')",
        "import ctypes",
        "import sys\nwhile True: sys.stdout.write('x' * 10000)",
    ],
)
def test_what_has_no_end_or_reaches_out_is_stopped(program: str) -> None:
    start = time.monotonic()
    assert not passes(program, SHORT)
    assert time.monotonic() - start < 20


DEEDS = ["open({!r}, 'w')", "__import__('os').remove({!r})", "__import__('os').mkdir({!r} + '2')"]


@pytest.mark.parametrize("deed", DEEDS)
def test_files_elsewhere_are_left_alone(deed: str, tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("kept")
    assert not passes(deed.format(str(path)), SHORT)
    assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]
    assert path.read_text() == "kept"


@pytest.mark.parametrize(
    ("num_written", "num_right", "k", "expected"),
    # 1 - prod(1 - k / arange(n - c + 1, n + 1)), as human_eval.evaluation's estimate_pass_at_k has it
    [(10, 3, 1, 0.3), (10, 3, 5, 0.9166666666666667), (200, 7, 10, 0.3055988116177335), (5, 0, 2, 0.0),
     (5, 4, 2, 1.0), (3, 3, 3, 1.0)],
)  # fmt: skip
def test_pass_at_k_is_human_evals(num_written: int, num_right: int, k: int, expected: float) -> None:
    assert pass_at_k(num_written, num_right, k) == pytest.approx(expected, abs=1e-12)


def test_fewer_programs_than_k_tell_nothing() -> None:
    with pytest.raises(ValueError, match="pass@5 needs at least 5 programs, got 3"):
        pass_at_k(3, 1, 5)
