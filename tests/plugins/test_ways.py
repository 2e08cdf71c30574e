"""Every registered family under each of its heads beside transformers, however it is computed."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import zoo
from zoo.testing import Reference, ways
from zoo.testing.counterparts import Counterpart, registered
from zoo.testing.parity import padded_batch
from zoo.testing.ways import Way, assert_equal_in, assert_learns_alike, found_by_reference

from . import ledger
from .conftest import QUICK, STEPS, column_of

pytestmark = [  # the compiler's own
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
NAME = f"transformers {transformers.__version__}"


UNUSUAL = "odd heads"


def cases(ways: list[Any]) -> list[Any]:
    """All sizes in all ways, compiled the unusual ones alone; what takes long is marked."""
    found = []
    for counterpart in registered():
        if counterpart.architecture() is None:
            continue
        for size, way in itertools.product(counterpart.sizes(), ways):
            if size == UNUSUAL or not way.is_compiled:
                name = f"{counterpart.model_type}-{counterpart.head}-{size}-{way}"
                marks = [] if size == UNUSUAL and way in QUICK else [pytest.mark.slow]
                if reason := ledger.UNPROVEN.get((counterpart.model_type, column_of(way))):
                    marks.append(pytest.mark.xfail(raises=RuntimeError, reason=reason))
                found.append(pytest.param(counterpart, size, way, id=name, marks=marks))
    return found


@pytest.mark.parametrize(("counterpart", "size", "way"), cases(ways.WAYS))
def test_it_is_in_parity_however_it_is_computed(
    prove_in: Callable[..., None], tmp_path: Path, counterpart: Counterpart, size: str, way: Way
) -> None:
    sizes = counterpart.sizes()[size]
    counterpart.save(tmp_path, sizes)
    batch = counterpart.batch(sizes, is_left=way.is_dense)
    prove_in(way, lambda: counterpart.pair(tmp_path, is_dense=way.is_dense), batch, NAME, size)


@pytest.mark.parametrize(("counterpart", "size", "way"), cases([Way()]))
def test_it_learns_what_transformers_does_in_parity(
    prove_learning: Callable[..., None], tmp_path: Path, counterpart: Counterpart, size: str, way: Way
) -> None:
    sizes = counterpart.sizes()[size]
    counterpart.save(tmp_path, sizes)
    batches = [counterpart.batch(sizes, seed=step) for step in range(STEPS)]
    prove_learning(*counterpart.pair(tmp_path), batches, NAME, size)


# The proofs can fail.


def pair() -> tuple[Any, Reference, Any]:
    """A model and, as its reference, another one that is a little different."""
    sides = []
    for eps in (1e-6, 1e-3):
        torch.manual_seed(0)
        spec = zoo.decoders.Llama(**{**zoo.decoders.Llama.tiny, "rms_norm_eps": eps})
        module = zoo.modules.DecoderModule(spec)
        module.build()
        sides.append(module)
    ours, other = sides

    def forward(batch: Any) -> Any:
        output = other(**batch)
        return output.logits, output.loss

    named = other.hub_tensors()
    return ours, Reference(forward, lambda: {name: part.grad for name, part in named.items()}, other), other


def test_a_difference_is_found_in_bfloat16() -> None:
    ours, reference, other = pair()
    batch, way = padded_batch(96), Way(torch.bfloat16)
    exact = found_by_reference(ours, reference, batch)
    other.zero_grad()
    other.to(torch.bfloat16)
    with pytest.raises(AssertionError, match=r"^bfloat16, sdpa: logits differ by .*; .* is allowed$"):
        assert_equal_in(way, ours.to(torch.bfloat16), reference, batch, exact)


def test_a_difference_is_found_in_what_is_learnt() -> None:
    ours, reference, _ = pair()
    with pytest.raises(AssertionError, match=r"^losses differ by .* in 2 steps; 1e-04 is allowed$"):
        assert_learns_alike(ours, reference, [padded_batch(96, seed=step) for step in range(2)])
