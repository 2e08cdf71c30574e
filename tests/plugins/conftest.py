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
from zoo.testing import Reference, assert_parity, ways
from zoo.testing.batches import batch_for
from zoo.testing.parity import EXPERTS, Parity, of_transformers, reference_of, scramble
from zoo.testing.ways import Way, assert_equal_in, assert_learns_alike, found_by_reference
from zoo.testing.writing import assert_writes_alike, writer_of

from . import ledger
from .ledger import Proof

PROOFS = pytest.StashKey[list[Proof]]()
QUICK = (Way(), Way(torch.bfloat16, is_dense=True))
"""What every change must pass."""
WAYS = [pytest.param(way, marks=() if way in QUICK else pytest.mark.slow, id=str(way)) for way in ways.WAYS]
STEPS = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ledger", type=Path, help="write what was proven to this file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[PROOFS] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--ledger")
    if path is not None:
        before = path.read_text("utf-8") if path.is_file() else ""
        ledger.write(ledger.page(session.config.stash[PROOFS], before), path)


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[Proof], None]:
    """Keeps for the ledger what was found."""
    return request.config.stash[PROOFS].append


@pytest.fixture
def prove(keep: Callable[[Proof], None]) -> Callable[..., Parity]:
    """Asserts parity and keeps what was found for the ledger."""

    def prove(module: ZooModule, reference: Reference, batch: Batch, name: str, variant: str = "") -> Parity:
        parity = assert_parity(module, reference, batch)
        keep(Proof(*names_of(module), name, variant, vars(parity)))
        return parity

    return prove


def names_of(module: ZooModule) -> tuple[str, str]:
    """Under which the ledger knows a module: of its family and of its head."""
    head = type(module.head_specs[module.head_name()]).__name__
    return config_of(module.spec, None, "float32")["model_type"], head


ENCODER_HEADS = {
    "MaskedLM": "MaskedLM",
    "SequenceClassification": "SequenceClassification",
    "TokenClassification": "TokenClassification",
    "ExtractiveQA": "QuestionAnswering",
    "MultipleChoice": "MultipleChoice",
}
"""Heads of an encoder, and how transformers calls them."""
LABELLED = ("SequenceClassification", "TokenClassification")


def column_of(way: Way) -> str:
    """Where the ledger tells what was found."""
    if way.dtype == torch.bfloat16:
        return "compiled bfloat16" if way.is_compiled else "bfloat16"
    return "compiled" if way.is_compiled else "dense" if way.is_dense else "sdpa"


Make = Callable[[], tuple[ZooModule, Reference]]


@pytest.fixture
def prove_in(keep: Callable[[Proof], None]) -> Callable[..., None]:
    """Asserts equality with a reference in each way of being computed; both are made anew for each."""

    def prove_in(way: Way, make: Make, batch: Batch, name: str, variant: str = "") -> None:
        exact = found_by_reference(*make(), batch)
        module, reference = make()
        assert reference.model is not None
        reference.model.to(way.dtype)
        parity = assert_equal_in(way, way.prepare(module.to(way.dtype)), reference, batch, exact)
        keep(Proof(*names_of(module), name, variant, {column_of(way): max(vars(parity).values())}))

    return prove_in


@pytest.fixture
def prove_learning(keep: Callable[[Proof], None]) -> Callable[..., None]:
    """Asserts that a module and its reference have the same losses while they are trained."""

    def prove_learning(
        module: ZooModule, reference: Reference, batches: list[Batch], name: str, variant: str = ""
    ) -> None:
        apart = assert_learns_alike(module, reference, batches)
        keep(Proof(*names_of(module), name, variant, {f"{len(batches)} steps": apart}))

    return prove_learning


@pytest.fixture
def prove_both_ways(
    prove: Callable[..., Parity], keep: Callable[[Proof], None], tmp_path: Path
) -> Callable[..., None]:
    """Loads what transformers saved, saves it, loads that there: equal at every step, files bit for bit."""

    def prove_both_ways(
        architecture: str, head: str, variant: str, sizes: dict[str, Any], std: float = 0.3
    ) -> None:
        num_labels = 1 if sizes.get("problem_type") == "regression" else 3
        more = {"num_labels": num_labels} if head in LABELLED else {}
        model = made_by_transformers(architecture, {**sizes, **more}, std)
        model.save_pretrained(tmp_path / "theirs")
        batch = batch_for(head, sizes)
        name = f"transformers {transformers.__version__}"
        ours = zoo.load(tmp_path / "theirs")
        assert type(ours.head_specs[ours.head_name()]).__name__ == head
        prove(ours, reference_of(model), batch, name, variant)
        if isinstance(ours, GeneratingModule) and ours.head().generates:
            assert_writes_alike(ours, writer_of(model))
            keep(Proof(*names_of(ours), name, variant, {"written": ledger.WRITTEN}))
        zoo.save(ours, tmp_path / "ours")
        _, again = of_transformers(tmp_path / "ours")
        assert_parity(zoo.load(tmp_path / "ours"), again, batch)
        zoo.save(zoo.load(tmp_path / "ours"), tmp_path / "twice")
        for path in (tmp_path / "ours").iterdir():
            assert path.read_bytes() == (tmp_path / "twice" / path.name).read_bytes(), path.name

    return prove_both_ways


def made_by_transformers(architecture: str, sizes: dict[str, Any], std: float = 0.3) -> Any:
    kind = getattr(transformers, architecture)
    model = kind(kind.config_class(**sizes, attn_implementation="eager", **EXPERTS)).eval()
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
    return Reference(model.eval(), lambda: {name: part.grad for name, part in named.items()}, model)


def split(fused: Tensor, pieces: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fills a fused parameter from its pieces; returns stand-ins that get the pieces' gradients."""
    fused.data.copy_(torch.cat(list(pieces.values())))
    stand_ins = {name: torch.empty_like(piece, requires_grad=False) for name, piece in pieces.items()}

    def share(parameter: Tensor) -> None:
        assert parameter.grad is not None
        for stand_in, gradient in zip(stand_ins.values(), parameter.grad.chunk(len(pieces)), strict=True):
            stand_in.data = gradient  # of its dtype
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
