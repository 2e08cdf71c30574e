"""What the families are, counted from their files: the table of docs/families.md."""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from pages import table, written

from zoo import registry

PAGE = Path(__file__).with_suffix(".md")
LEDGER = PAGE.with_name("parity.md")
ROOT = PAGE.parents[1]


def proven() -> dict[str, list[str]]:
    """The heads of each family that docs/parity.md proves, by `model_type`."""
    found: dict[str, list[str]] = {}
    for line in LEDGER.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] != "family":
            found.setdefault(cells[0], []).append(cells[1])
    return found


def rows() -> list[dict[str, Any]]:
    """One for each registered class of the zoo's own."""
    proofs, found = proven(), {}
    for entry in (entry for group in registry.FAMILIES for entry in registry.in_group(group)):
        if entry.distribution != registry.DISTRIBUTION:
            continue
        family = entry.load()
        file = Path(inspect.getfile(family))
        row = found.setdefault(entry.value, {
            "family": [], "shape": family.shape, "what it stretches": subject(file),
            "lines of its file": lines(file), "others' files": borrowed(file),
            "tensor parallelism": family.undivided or "divides attention and feed-forward",
            "heads in parity": {},
        })  # fmt: skip
        row["family"].append(entry.name)
        row["heads in parity"] |= dict.fromkeys(proofs.get(entry.name, []))
    return [
        {name: ", ".join(cell) if isinstance(cell, list | dict) else cell for name, cell in row.items()}
        for row in found.values()
    ]


def subject(file: Path) -> str:
    """The first sentence of a file, without the family's name."""
    return file.read_text("utf-8").partition("\n")[0].strip('"').partition(": ")[2].rstrip(".")


def lines(file: Path) -> int:
    """Of a file, empty ones included."""
    return len(file.read_text("utf-8").splitlines())


def borrowed(file: Path) -> str:
    """Plugins' other files that a family's file imports, and their lines."""
    text, found = file.read_text("utf-8"), []
    for other in sorted((ROOT / "plugins").glob("*/*.py")):
        if other != file and f"from {other.parent.name}.{other.stem} import" in text:
            found.append(f"{other.stem} ({lines(other)})")
    return ", ".join(found)


def shared() -> str:
    """What all of them are made of."""
    sizes = {file.stem: lines(file) for file in sorted((ROOT / "zoo" / "layers").glob("*.py"))}
    names = ", ".join(f"{name} {size}" for name, size in sizes.items() if name != "__init__")
    return f"\n`zoo/layers` has {sum(sizes.values())} lines: {names}.\n"


def page(found: list[dict[str, Any]]) -> str:
    """The page with the table as it is now."""
    return written(PAGE, table(found) + shared())


if __name__ == "__main__":
    counted = rows()
    PAGE.write_text(page(counted), "utf-8")
    print(table(counted), file=sys.stderr)
    print(json.dumps({"table": "families", "rows": len(counted)}))
