"""docs/conformance.md names every check, and no other."""

import re
from pathlib import Path

from zoo.testing.profiles import profile

PAGE = (Path(__file__).parents[1] / "docs" / "conformance.md").read_text("utf-8")
SECTIONS = {
    "family": "A family's checks",
    "head": "A head's checks",
    "data": "Data's checks",
    "module": "A module's checks",
    "recipes": "Recipes' checks",
}


def test_the_page_tells_of_every_check_in_turn() -> None:
    for kind, title in SECTIONS.items():
        section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
        told = re.findall(r"^\| `(\w+)`( \*slow\*)? \|", section, re.MULTILINE)
        assert told == [(check.name, " *slow*" if check.is_slow else "") for check in profile(kind)]
