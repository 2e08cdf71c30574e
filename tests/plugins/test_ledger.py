"""docs/parity.md, which `make parity` writes."""

import json
from pathlib import Path

import pytest

from zoo import registry
from zoo.hub.ledger import FILE, proven

from . import ledger

LEDGER = Path(__file__).parents[2] / "docs" / "parity.md"
HEADS = [
    (entry.name, head)
    for group in registry.FAMILIES
    for entry in registry.in_group(group)
    if entry.distribution == registry.DISTRIBUTION
    for head in entry.load().heads
]


WRITERS = ("CausalLM", "Seq2SeqLM")
MOST = {
    **dict.fromkeys(("logits", "loss", "gradients", "sdpa", "dense", "compiled"), 1e-5),
    "20 steps": 1e-4,
}


def rows() -> dict[tuple[str, str], dict[str, str]]:
    """By family and head, what stands in each column."""
    return {key[:2]: row for key, row in ledger.read(LEDGER.read_text("utf-8")).items()}


@pytest.mark.parametrize(("family", "head"), HEADS)
def test_the_ledger_has_every_head_of_every_family(family: str, head: str) -> None:
    row = rows()[family, head]
    assert int(row["variants"]) > 0
    blank = {column for name, column in ledger.UNPROVEN if name == family}
    if head not in WRITERS or not row["reference"].startswith("transformers"):
        blank.add("written")
    for column in ledger.COLUMNS:
        assert row[column] or column in blank, f"{column} was not compared: make parity does"
    for column, most in MOST.items():
        assert float(row[column].removeprefix("≤ ") or 0) <= most, column


def test_the_ledger_has_nothing_else() -> None:
    assert rows().keys() == set(HEADS)


def test_each_plugin_carries_what_the_ledger_says_of_its_families() -> None:
    for package, told in ledger.by_package(LEDGER.read_text("utf-8")).items():
        carried = LEDGER.parents[1] / "plugins" / package / FILE
        assert json.loads(carried.read_text("utf-8")) == told, "`make parity` writes both"


def test_a_card_finds_what_is_proven_of_a_family() -> None:
    found = proven(registry.family("llama"), "llama", "CausalLM")
    assert found is not None
    assert found.items() <= rows()["llama", "CausalLM"].items()
    assert proven(registry.family("llama"), "llama", "SomeHead") is None
    assert proven(int, "llama", "CausalLM") is None


def test_what_is_not_proven_again_stays() -> None:
    proofs = [
        ledger.Proof("cat", "CausalLM", "torch", variant, {"logits": apart, "written": "equal"})
        for variant, apart in (("tiny", 3e-7), ("odd heads", 2e-6))
    ]
    first = ledger.page(proofs)
    assert "| cat | CausalLM | torch | 2 | ≤ 1e-05 |" in first
    again = ledger.page([ledger.Proof("cat", "CausalLM", "torch", "tiny", {"bfloat16": 0.0061})], first)
    row = ledger.read(again)["cat", "CausalLM", "torch"]
    assert (row["logits"], row["bfloat16"], row["written"]) == ("≤ 1e-05", "≤ 7e-03", "equal")
