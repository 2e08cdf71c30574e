"""Equality with a reference, however a model is computed: bfloat16, compiled, either kind of attention."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo.heads.base import Batch
from zoo.modules.base import ZooModule
from zoo.testing.parity import TOLERANCE, Parity, Reference, compared
from zoo.training.blocks import speed_up

LOW = 1e-2
"""What is promised in bfloat16, as the length of the difference beside that of the reference."""
LEARNT = 1e-4
"""What is promised of the losses of twenty steps."""


@dataclass(frozen=True)
class Way:
    """How a model is computed."""

    dtype: torch.dtype = torch.float32
    is_compiled: bool = False
    is_dense: bool = False
    """Whether attention is written out, with a tensor of what may be seen, in place of the fused kernel."""

    def __str__(self) -> str:
        words = str(self.dtype).removeprefix("torch."), "dense" if self.is_dense else "sdpa"
        return ", ".join((*words, "compiled") if self.is_compiled else words)

    def prepare(self, module: ZooModule) -> ZooModule:
        """The same module, its blocks compiled where the way says so."""
        if self.is_compiled:
            speed_up(module.backbone, compile=True, activation_checkpointing="none")
        return module

    @contextlib.contextmanager
    def kernels(self) -> Iterator[None]:
        """Where torch takes the kernels that the way says."""
        with sdpa_kernel(SDPBackend.MATH) if self.is_dense else contextlib.nullcontext():
            yield


WAYS = [
    Way(dtype, is_compiled, is_dense)
    for is_compiled in (False, True)
    for dtype in (torch.float32, torch.bfloat16)
    for is_dense in (False, True)
]


@dataclass(frozen=True)
class Found:
    """What one side makes of a batch."""

    logits: Tensor
    """At what is compared alone."""
    loss: Tensor
    gradients: Mapping[str, Tensor]

    def apart(self, other: "Found") -> Parity:
        """How far it is from another, as lengths of differences beside the other's."""
        names = sorted(other.gradients)
        slopes = [torch.cat([one.gradients[name].flatten() for name in names]) for one in (self, other)]
        return Parity(
            _apart(self.logits, other.logits), _apart(self.loss, other.loss), _apart(slopes[0], slopes[1])
        )


def _apart(one: Tensor, other: Tensor) -> float:
    one, other = one.detach().double(), other.detach().double()
    return float((one - other).norm() / other.norm().clamp(min=1e-30))


def found_by(module: ZooModule, batch: Batch) -> Found:
    """Logits, loss and gradients of a module."""
    module.zero_grad()
    output = module(**batch)
    output.loss.backward()
    gradients = module.hub_tensors(gradients=True)
    return Found(output.logits[compared(module, batch, output.logits)], output.loss, gradients)


def found_by_reference(module: ZooModule, reference: Reference, batch: Batch) -> Found:
    """The same of a module's reference."""
    logits, loss = reference.forward(batch)
    torch.autograd.backward(loss)
    gradients = {name: part for name, part in reference.gradients().items() if part is not None}
    return Found(logits[compared(module, batch, logits)], loss, gradients)


def assert_equal_in(
    way: Way, module: ZooModule, reference: Reference, batch: Batch, exact: Found | None = None
) -> Parity:
    """Asserts that a module, computed in a way, is as near to its reference as rounding lets it be.

    In bfloat16, where two right computations differ by more than a hundredth, rounding does it: the reference
    then stands as far from itself in float32. Two such roundings lie up to twice as far apart.

    Args:
        way: In whose dtype both are.
        module: As `way.prepare` made it.
        reference: What it must equal.
        batch: What both are asked.
        exact: What the reference finds in float32; needed in another dtype.

    Raises:
        AssertionError: It names what differs, and by how much.
    """
    with way.kernels():
        ours, theirs = found_by(module, batch), found_by_reference(module, reference, batch)
    assert ours.gradients.keys() == theirs.gradients.keys(), "the two models name other parameters"
    apart, allowed = ours.apart(theirs), Parity(TOLERANCE, TOLERANCE, TOLERANCE)
    if way.dtype != torch.float32:
        assert exact is not None
        allowed = Parity(*(max(LOW, 2 * rounding) for rounding in vars(theirs.apart(exact)).values()))
    for name, difference in vars(apart).items():
        most = getattr(allowed, name)
        assert difference <= most, f"{way}: {name} differ by {difference:.1e}; {most:.1e} is allowed"
    return apart


def assert_learns_alike(module: ZooModule, reference: Reference, batches: Iterable[Batch]) -> float:
    """Asserts that a module and its reference have the same losses while AdamW trains both.

    Args:
        module: Without dropout.
        reference: It knows its `model`.
        batches: One for each step.

    Returns:
        The largest difference of a loss, relative to the reference's.

    Raises:
        AssertionError: Two losses differ by more than 1e-4.
    """
    assert reference.model is not None, "the reference says not what is trained"
    optimizers = [torch.optim.AdamW(side.parameters()) for side in (module.train(), reference.model)]
    losses: list[tuple[float, float]] = []
    for batch in batches:
        ours, theirs = module(**batch).loss, reference.forward(batch)[1]
        for optimizer, loss in zip(optimizers, (ours, theirs), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append((ours.item(), theirs.item()))
    apart = max(abs(ours - theirs) / abs(theirs) for ours, theirs in losses)
    assert apart <= LEARNT, f"losses differ by {apart:.1e} in {len(losses)} steps; {LEARNT:.0e} is allowed"
    return apart
