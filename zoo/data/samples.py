"""Small files that data read in checks: what `example` of each class is made of."""

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_WORDS = ("cats", "dogs", "birds", "see", "hear", "follow", "small", "large", "red", "suns", "moons")


def write_rows(folder: Path, number: int = 80) -> str:
    """A jsonl file with a text, a label, and a pair of texts in each row; its path."""
    draw = random.Random(0)  # noqa: S311 - no secret
    path = folder / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(number):
            text = " ".join(draw.choices(_WORDS, k=draw.randint(4, 12)))
            row = {"text": f"{text}.", "label": text.split()[0][:1], "input": text, "target": text[::-1]}
            file.write(f"{json.dumps(row)}\n")
    return str(path)


def write_records(folder: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """A jsonl file of these rows; its path."""
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return str(path)


def write_library(folder: Path) -> str:
    """Packages of a few functions each; the folder's path."""
    for package in ("first", "second", "third"):
        for module in range(6):
            path = folder / package / f"module_{module}.py"
            path.parent.mkdir(exist_ok=True)
            lines = [f"def {package}_{module}_{n}(x, y):\n    return x + {n} * y\n" for n in range(12)]
            path.write_text("\n".join(lines), "utf-8")
    return str(folder)
