"""What the tests of all families share: proofs of parity, kept for the ledger."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import zoo
from zoo.heads.base import Batch
from zoo.hub.config import config_of
from zoo.modules.base import ZooModule
from zoo.modules.generating import GeneratingModule
from zoo.testing import Reference, assert_parity
from zoo.testing.parity import Parity, of_transformers, padded_batch, reference_of, scramble
from zoo.testing.writing import assert_writes_alike, writer_of

Proof = tuple[str, str, str, str, Parity]
PROOFS = pytest.StashKey[list[Proof]]()

LEDGER = """# Parity

Every family beside its reference: the same weights, a batch with padded rows, float32 on a CPU. Shown are
the largest differences of logits, of the loss and of gradients, relative to the largest of their values,
over all variants that are tested. Made by `make parity`; `make test` runs the same proofs, with
a bound of 1e-5.

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
        family = config_of(module.spec, None, "float32")["model_type"]
        request.config.stash[PROOFS].append((family, head, name, variant, parity))
        return parity

    return prove


LABELS = {
    "single_label_classification": torch.tensor([2, 0, 1]),
    "multi_label_classification": torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]),
    "regression": torch.tensor([0.5, -2.0, 3.0]),
}


def batch_for(head: str, sizes: dict[str, Any]) -> Batch:
    """A padded batch with the labels that a head takes."""
    batch = padded_batch(sizes["vocab_size"])
    if head == "SequenceClassification":
        batch["labels"] = LABELS[sizes.get("problem_type", "single_label_classification")]
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
    """Loads what transformers saved, saves it, loads that there: equal at every step, files bit for bit."""

    def prove_both_ways(
        architecture: str, head: str, variant: str, sizes: dict[str, Any], std: float = 0.3
    ) -> None:
        num_labels = 1 if sizes.get("problem_type") == "regression" else 3
        more = {"num_labels": num_labels} if head == "SequenceClassification" else {}
        model = made_by_transformers(architecture, {**sizes, **more}, std)
        model.save_pretrained(tmp_path / "theirs")
        batch = batch_for(head, sizes)
        name = f"transformers {transformers.__version__}"
        ours = zoo.load(tmp_path / "theirs")
        assert type(ours.head_specs[ours.head_name()]).__name__ == head
        prove(ours, reference_of(model), batch, name, variant)
        if isinstance(ours, GeneratingModule) and ours.head().generates:
            assert_writes_alike(ours, writer_of(model))
        zoo.save(ours, tmp_path / "ours")
        _, again = of_transformers(tmp_path / "ours")
        assert_parity(zoo.load(tmp_path / "ours"), again, batch)
        zoo.save(zoo.load(tmp_path / "ours"), tmp_path / "twice")
        for path in (tmp_path / "ours").iterdir():
            assert path.read_bytes() == (tmp_path / "twice" / path.name).read_bytes(), path.name

    return prove_both_ways


def made_by_transformers(architecture: str, sizes: dict[str, Any], std: float = 0.3) -> Any:
    kind = getattr(transformers, architecture)
    model = kind(kind.config_class(**sizes, attn_implementation="eager")).eval()
    if sizes.get("tie_word_embeddings") is False and (lm_head := getattr(model, "lm_head", None)) is not None:
        lm_head.weight = nn.Parameter(lm_head.weight.detach().clone())  # tied all the same by some families
    scramble(model, std=std)
    return model


def of_torch(module: ZooModule, model: nn.Module, parts: dict[str, str]) -> Reference:
    """A model of torch's own layers as a reference, once it has a module's weights.

    `parts` pairs submodules, ours on the Hub and theirs. torch fuses query, key and value; they are compared
    by parts.
    """
    ours, named = module.hub_tensors(), {}
    for mine, theirs in parts.items():
        part = model.get_submodule(theirs)
        if isinstance(part, nn.MultiheadAttention):
            named |= {f"{mine}.output.{kind}": getattr(part.out_proj, kind) for kind in ("weight", "bias")}
            for kind in ("weight", "bias"):
                names = [f"{mine}.{name}.{kind}" for name in ("query", "key", "value")]
                named |= split(getattr(part, f"in_proj_{kind}"), {name: ours[name] for name in names})
        else:
            named |= {f"{mine}.{kind}": parameter for kind, parameter in part.named_parameters()}
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(ours[name])
    return Reference(model.eval(), lambda: {name: part.grad for name, part in named.items()})


def split(fused: Tensor, pieces: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fills a fused parameter from its pieces; returns stand-ins that get the pieces' gradients."""
    fused.data.copy_(torch.cat(list(pieces.values())))
    stand_ins = {name: torch.empty_like(piece) for name, piece in pieces.items()}

    def share(parameter: Tensor) -> None:
        assert parameter.grad is not None
        for stand_in, gradient in zip(stand_ins.values(), parameter.grad.chunk(len(pieces)), strict=True):
            stand_in.grad = gradient

    fused.register_post_accumulate_grad_hook(share)
    return stand_ins


def sinusoids(length: int, width: int) -> Tensor:
    """Section 3.5 of the paper, number by number."""
    table = torch.zeros(length, width)
    for position in range(length):
        for channel in range(0, width, 2):
            angle = position / 10000 ** (channel / width)
            table[position, channel] = math.sin(angle)
            table[position, channel + 1] = math.cos(angle)
    return table
