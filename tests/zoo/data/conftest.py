"""A cache and documents of each test's own."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own-cache"
    monkeypatch.setenv("ZOO_CACHE", str(folder))
    return folder


@pytest.fixture
def sources(tmp_path: Path) -> Write:
    """Writes a folder of so many short texts."""

    def write(number: int = 40, seed: int = 0, name: str = "texts") -> Path:
        draw = random.Random(seed)
        words = ["the", "cat", "dog", "sat", "on", "mat", "ran", "to", "über", "red", "🦙"]
        (tmp_path / name).mkdir(exist_ok=True)
        for index in range(number):
            lines = (" ".join(draw.choices(words, k=8)) + ".\n" for _ in range(draw.randint(1, 6)))
            (tmp_path / name / f"{index:03}.txt").write_text("".join(lines))
        return tmp_path / name

    return write
