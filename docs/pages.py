"""What the scripts that write a part of a page share: the part's place, and tables in Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

END = "<!-- to here -->\n"


def written(page: Path, part: str) -> str:
    """A page with a part in the place that it keeps for the script of its own name."""
    begin = f"<!-- python docs/{page.stem}.py writes from here -->\n"
    before, rest = page.read_text("utf-8").split(begin)
    return f"{before}{begin}{part}{END}{rest.split(END)[1]}"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows under the names of their cells; numbers that are not whole have one decimal."""
    lines = [f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
    for row in rows:
        cells = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values())
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
