"""docs/parity.md, which `make parity` writes."""

import json
from pathlib import Path

import pytest

from zoo import registry
from zoo.hub import ledger

from .ledger import by_package

LEDGER = Path(__file__).parents[2] / "docs" / "parity.md"
HEADS = [
    (entry.name, head)
    for group in registry.FAMILIES
    for entry in registry.in_group(group)
    if entry.distribution == registry.DISTRIBUTION
    for head in entry.load().heads
]


def rows() -> dict[tuple[str, str], list[str]]:
    lines = [line.strip("| ").split(" | ") for line in LEDGER.read_text("utf-8").splitlines()]
    return {(row[0], row[1]): row[2:] for row in lines if len(row) == 7 and row[0] != "family"}


@pytest.mark.parametrize(("family", "head"), HEADS)
def test_the_ledger_has_every_head_of_every_family(family: str, head: str) -> None:
    _, num_variants, *bounds = rows()[family, head]
    assert int(num_variants) > 0
    assert all(bound == "0" or float(bound.removeprefix("≤ ")) <= 1e-5 for bound in bounds), bounds


def test_the_ledger_has_nothing_else() -> None:
    assert rows().keys() == set(HEADS)


def test_each_plugin_carries_what_the_ledger_says_of_its_families() -> None:
    for package, told in by_package(LEDGER.read_text("utf-8")).items():
        carried = LEDGER.parents[1] / "plugins" / package / ledger.FILE
        assert json.loads(carried.read_text("utf-8")) == told, "`make parity` writes both"


def test_a_card_finds_what_is_proven_of_a_family() -> None:
    found = ledger.proven(registry.family("llama"), "llama", "CausalLM")
    assert found is not None
    assert rows()["llama", "CausalLM"] == list(found.values())
    assert ledger.proven(registry.family("llama"), "llama", "SomeHead") is None
    assert ledger.proven(int, "llama", "CausalLM") is None
