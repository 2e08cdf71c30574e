"""Every benchmark runs and ends in figures as JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_the_last_line_is_json_with_a_ratio(path: Path, tmp_path: Path) -> None:
    short = ("--turns", "1", "--steps", "1")
    done = subprocess.run(
        [sys.executable, path, *short], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["benchmark"] == path.stem
    assert not list(tmp_path.iterdir())
    if "skipped" in figures:
        pytest.skip(figures["skipped"])
    assert figures["ratio"] > 0
