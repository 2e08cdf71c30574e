"""Training: gradients everywhere, a batch learnt by heart, less kept in memory."""

import torch
from torch import Tensor

from zoo.heads.base import Batch
from zoo.modules.base import ZooModule
from zoo.testing.families import Family

STEPS, SHARE = 200, 0.1
"""A batch is learnt by heart when its loss is so small a share of the first one, after so many steps."""


def gradients_reach_every_parameter(family: Family) -> None:
    """One backward pass gives every parameter a gradient, finite, and not zero throughout."""
    module = family.scrambled()
    module.train()
    torch.autograd.backward(_loss(module, family.batch()))
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"`{name}` gets no gradient"
        assert parameter.grad.isfinite().all(), f"`{name}` gets a gradient that is not finite"
        # A key's bias is the one thing that softmax does not feel.
        assert parameter.ndim < 2 or parameter.grad.any(), f"`{name}` gets a gradient of zero"


def learns_a_batch_by_heart(family: Family) -> None:
    """AdamW brings the loss of one batch to a tenth within 200 steps."""
    module, batch = family.fresh(initializer_range=0.1), family.batch()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    first = last = float("nan")
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = _loss(module, batch)
        torch.autograd.backward(loss)
        optimizer.step()
        last = loss.item()
        first = last if step == 0 else first
        if last <= SHARE * first:
            return
    raise AssertionError(f"the loss of one batch is {last:.3g} after {STEPS} steps, and was {first:.3g}")


def computing_again_changes_nothing(family: Family) -> None:
    """Activation checkpointing, of blocks or selective, gives the same loss and gradients to the last bit."""
    expected = _step(family.fresh(dropout=0.2), family.batch())
    for choice in ("block", "selective"):
        found = _step(family.fresh(dropout=0.2, activation_checkpointing=choice), family.batch())
        assert found.keys() == expected.keys(), f"under `{choice}` it has other parameters"
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), f"under `{choice}` {name} differs"


def _step(module: ZooModule, batch: Batch) -> dict[str, Tensor]:
    torch.manual_seed(2)  # of what is dropped
    loss = _loss(module, batch)
    torch.autograd.backward(loss)
    slopes = {f"the gradient of `{name}`": part.grad for name, part in module.named_parameters()}
    return {"the loss": loss.detach(), **{name: slope for name, slope in slopes.items() if slope is not None}}


def _loss(module: ZooModule, batch: Batch) -> Tensor:
    return module.head().loss(module.hidden_states(batch), batch).mean
