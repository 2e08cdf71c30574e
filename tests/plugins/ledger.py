"""What was proven of each family, as docs/parity.md tells it."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo import registry
from zoo.hub.ledger import FILE

HEAD = """# Parity

Every family under each of its heads, beside its reference with the same weights, on a CPU. Made by
`make parity`; `make test` runs a part of the same proofs, `make test-all` all of them. Shown is the largest
difference over all that was compared.

- **logits**, **loss**, **gradients**: float32, a batch with padded rows; beside the largest value. The bound
  is 1e-5 for every number.
- **sdpa**, **dense**, **bfloat16**, **compiled**, **compiled bfloat16**: tiny sizes, nine heads that need not
  fill the width, windows shorter and longer than the text; by fused attention, and by attention with a tensor
  of what may be seen. Differences of logits, of the loss and of all gradients are lengths, √Σ(a-b)² beside
  √Σb². The bound is 1e-5; in bfloat16 1e-2, or, where the reference's own rounding is more, as it stands from
  itself in float32, twice that. Compiled are the nine heads alone.
- **20 steps**: the losses of 20 steps of AdamW from the same weights on the same batches; the bound is 1e-4.
- **written**: the same ids, greedily and by beams, with ids of an end and without, in batches and alone.
  Blank for heads that write nothing, and beside torch's own layers, which have no such function.

gpt_neox compiled in bfloat16 is blank: of two biases with one and the same gradient, as those of its parallel
residual are, torch 2.13's compiler makes C++ for a CPU that names one variable twice.

"""
COLUMNS = (
    "logits", "loss", "gradients", "sdpa", "dense", "bfloat16", "compiled", "compiled bfloat16", "20 steps",
    "written",
)  # fmt: skip
WRITTEN = "equal"
UNPROVEN = {("gpt_neox", "compiled bfloat16"): "torch 2.13 names a variable twice in the C++ that it makes"}
"""What cannot be compared: a family and a column, and why."""


@dataclass(frozen=True)
class Proof:
    """What one test found."""

    family: str
    """The Hub's `model_type`."""
    head: str
    reference: str
    variant: str
    found: Mapping[str, float | str]
    """By column: a difference, or a word."""


Key = tuple[str, str, str]
"""Family, head and reference."""
KEYS = ("family", "head", "reference")


def page(proofs: Iterable[Proof], before: str = "") -> str:
    """The whole of docs/parity.md; what was not proven this time stays as the page before had it."""
    heads = (*KEYS, "variants", *COLUMNS)
    known = read(before)
    for key, cells in _cells(proofs).items():
        known[key] = {**known.get(key, {}), **cells}
    lines = (
        _line((*key, *(cells.get(column, "") for column in heads[3:])))
        for key, cells in sorted(known.items())
    )
    return "".join((HEAD, _line(heads), f"|{'---|' * len(heads)}\n", *lines))


def _cells(proofs: Iterable[Proof]) -> dict[Key, dict[str, str]]:
    grouped: dict[Key, list[Proof]] = {}
    for proof in proofs:
        grouped.setdefault((proof.family, proof.head, proof.reference), []).append(proof)
    found = {}
    for key, some in grouped.items():
        columns = {column for proof in some for column in proof.found}
        cells = {
            column: _cell([proof.found[column] for proof in some if column in proof.found])
            for column in columns
        }
        if "logits" in cells:
            cells["variants"] = str(len({proof.variant for proof in some if "logits" in proof.found}))
        found[key] = cells
    return found


def read(text: str) -> dict[Key, dict[str, str]]:
    """What a page says, by row and column."""
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    if not table:
        return {}
    header, _, *lines = table
    rows = (dict(zip(header, line, strict=True)) for line in lines)
    return {(row["family"], row["head"], row["reference"]): row for row in rows}


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cell(values: list[float | str]) -> str:
    numbers = [value for value in values if not isinstance(value, str)]
    return bound(max(numbers)) if numbers else str(values[0])


def bound(value: float) -> str:
    """A difference rounded up: the last bits differ between machines."""
    if value == 0:
        return "0"
    power = math.floor(math.log10(value))
    if value < 1e-4:  # of float32: to the next power of ten
        return f"≤ 1e{power + 1:03d}"
    return f"≤ {math.ceil(value / 10**power - 1e-9) * 10**power:.0e}"


def by_package(page: str) -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    """The table as each plugin's package carries it for the cards of its models: by family, head, column."""
    found: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    for (family, head, _), row in read(page).items():
        package = registry.family(family).__module__.partition(".")[0]
        told = {column: cell for column, cell in row.items() if cell and column not in ("family", "head")}
        found.setdefault(package, {}).setdefault(family, {})[head] = told
    return found


def write(page: str, path: Path) -> None:
    """Writes docs/parity.md, and what each plugin's package carries of it."""
    path.write_text(page, "utf-8")
    for package, told in by_package(page).items():
        carried = path.parents[1] / "plugins" / package / FILE
        carried.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")
