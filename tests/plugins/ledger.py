"""What was proven of each family, as docs/parity.md tells it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zoo import registry

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
  itself in float32, twice that.
- **20 steps**: the losses of 20 steps of AdamW from the same weights on the same batches; the bound is 1e-4.
- **written**: greedily and by beams, with ids of an end and without, in batches and alone.

"""
COLUMNS = (
    "logits", "loss", "gradients", "sdpa", "dense", "bfloat16", "compiled", "compiled bfloat16", "20 steps",
    "written",
)  # fmt: skip
WRITTEN = "equal"


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


def page(proofs: Iterable[Proof]) -> str:
    """The whole of docs/parity.md."""
    heads = ("family", "head", "reference", "variants", *COLUMNS)
    return "".join((HEAD, _line(heads), f"|{'---|' * len(heads)}\n", *_rows(proofs)))


def _rows(proofs: Iterable[Proof]) -> Iterable[str]:
    grouped: dict[tuple[str, str, str], list[Proof]] = {}
    for proof in proofs:
        grouped.setdefault((proof.family, proof.head, proof.reference), []).append(proof)
    for key, found in sorted(grouped.items()):
        variants = {proof.variant for proof in found}
        cells = (
            _cell([proof.found[column] for proof in found if column in proof.found]) for column in COLUMNS
        )
        yield _line((*key, str(len(variants)), *cells))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cell(values: list[float | str]) -> str:
    numbers = [value for value in values if not isinstance(value, str)]
    if not numbers:
        return str(values[0]) if values else ""
    return bound(max(numbers))


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
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    found: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    for family, head, *cells in rows[1:]:
        package = registry.family(family).__module__.partition(".")[0]
        told = dict(zip(rows[0][2:], cells, strict=True))
        found.setdefault(package, {}).setdefault(family, {})[head] = told
    return found
