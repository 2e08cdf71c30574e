"""What the tests of all families share: proofs of parity, kept for the ledger."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import zoo
from zoo import registry
from zoo.heads.base import Batch
from zoo.modules.base import ZooModule
from zoo.testing import Reference, assert_parity
from zoo.testing.parity import Parity, of_transformers, padded_batch, reference_of, scramble

Proof = tuple[str, str, str, str, Parity]
PROOFS = pytest.StashKey[list[Proof]]()

LEDGER = """# Parity

Every family beside its reference: the same weights, a batch with padded rows, float32 on a CPU. Shown are the
largest differences of logits, of the loss and of any parameter's gradient, relative to the largest value, over
all variants that are tested. Made by `make parity`; `make test` runs the same proofs with a bound of 1e-5.

| family | head | reference | variants | logits | loss | gradients |
|---|---|---|---|---|---|---|
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ledger", type=Path, help="write what was proven to this file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[PROOFS] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--ledger")
    if path is not None:
        path.write_text(LEDGER + "".join(rows(session.config.stash[PROOFS])), "utf-8")


def rows(proofs: list[Proof]) -> list[str]:
    grouped: dict[tuple[str, str, str], list[tuple[str, Parity]]] = {}
    for family, head, reference, variant, parity in proofs:
        grouped.setdefault((family, head, reference), []).append((variant, parity))
    lines = []
    for key, found in sorted(grouped.items()):
        largest = (max(getattr(parity, name) for _, parity in found) for name in Parity.__annotations__)
        # To the next power of ten: the last bits differ between machines.
        bounds = ("0" if value == 0 else f"≤ 1e{len(f'{1 / value:.0f}') * -1 + 1:03d}" for value in largest)
        lines.append(f"| {' | '.join(key)} | {len(found)} | {' | '.join(bounds)} |\n")
    return lines


@pytest.fixture
def prove(request: pytest.FixtureRequest) -> Callable[..., Parity]:
    """Asserts parity and keeps what was found for the ledger."""

    def prove(module: ZooModule, reference: Reference, batch: Batch, name: str, variant: str = "") -> Parity:
        parity = assert_parity(module, reference, batch)
        head = type(module.head_specs[module.head_name()]).__name__
        family = registry.model_type_of(type(module.spec))
        request.config.stash[PROOFS].append((family, head, name, variant, parity))
        return parity

    return prove


def batch_for(head: str, sizes: dict[str, Any]) -> Batch:
    """A padded batch with the labels that a head takes."""
    batch = padded_batch(sizes["vocab_size"])
    if head == "SequenceClassification":
        batch["labels"] = torch.tensor([2, 0, 1])
    if head == "Seq2SeqLM":
        batch["labels"] = batch["labels"][:, :9].roll(1, 0)
    eos, pad = sizes.get("eos_token_id"), sizes.get("pad_token_id")
    if head == "SequenceClassification" and pad is not None:
        batch["input_ids"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, pad)
    if head == "SequenceClassification" and eos is not None:
        lengths = batch["attention_mask"].sum(-1)
        batch["input_ids"][torch.arange(3), lengths - 1] = eos
    return batch


@pytest.fixture
def prove_both_ways(prove: Callable[..., Parity], tmp_path: Path) -> Callable[..., None]:
    """Loads what transformers saved, saves it, loads that there: equal at every step, the files bit for bit."""

    def prove_both_ways(architecture: str, head: str, variant: str, sizes: dict[str, Any]) -> None:
        more = {"num_labels": 3} if head == "SequenceClassification" else {}
        model = made_by_transformers(architecture, {**sizes, **more})
        model.save_pretrained(tmp_path / "theirs")
        batch = batch_for(head, sizes)
        name = f"transformers {transformers.__version__}"
        ours = zoo.load(tmp_path / "theirs")
        assert type(ours.head_specs[ours.head_name()]).__name__ == head
        prove(ours, reference_of(model), batch, name, variant)
        zoo.save(ours, tmp_path / "ours")
        _, again = of_transformers(tmp_path / "ours")
        assert_parity(zoo.load(tmp_path / "ours"), again, batch)
        zoo.save(zoo.load(tmp_path / "ours"), tmp_path / "twice")
        for path in (tmp_path / "ours").iterdir():
            assert path.read_bytes() == (tmp_path / "twice" / path.name).read_bytes(), path.name

    return prove_both_ways


def made_by_transformers(architecture: str, sizes: dict[str, Any]) -> Any:
    kind = getattr(transformers, architecture)
    model = kind(kind.config_class(**sizes, attn_implementation="eager")).eval()
    scramble(model)
    return model
