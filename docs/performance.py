"""What benchmarks/families.py measured last of each family: a table of docs/performance.md."""

import json
from pathlib import Path
from typing import Any

from pages import table, written

PAGE = Path(__file__).with_suffix(".md")
MEASURED = PAGE.parents[1] / "benchmarks" / "families.json"
CLOCKS = {"perf_counter": "on the wall", "process_time": "processor time"}


def rows() -> list[dict[str, str]]:
    """One for each family."""
    return [row(name, found) for name, found in json.loads(MEASURED.read_text("utf-8")).items()]


def row(name: str, found: dict[str, Any]) -> dict[str, str]:
    """A family's, and how it was measured."""
    how, reading, learning = found["measured"], found["forward"], found["training step"]
    return {
        "family": name,
        "head": found["head"],
        "peer's attention": found["attention"],
        "forward, ms": f"{reading['zoo_ms']:.1f}",
        "the peer's": f"{reading['transformers_ms']:.1f}",
        "ratio": f"{reading['ratio']:.2f}",
        "step, ms": f"{learning['zoo_ms']:.1f}",
        "its peer's": f"{learning['transformers_ms']:.1f}",
        "its ratio": f"{learning['ratio']:.2f}",
        "measured": f"{how['date']}, {CLOCKS[how['clock']]}, {how['turns']} turns, threads: {how['threads']}",
    }


def page(found: list[dict[str, str]]) -> str:
    """The page with the table as it is now."""
    return written(PAGE, table(found))


if __name__ == "__main__":
    PAGE.write_text(page(rows()), "utf-8")
