"""Numerical equality with a reference: logits, loss and every gradient."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from zoo.heads.base import Batch
from zoo.modules.base import ZooModule

TOLERANCE = 1e-5
"""Relative and absolute, in float32."""


@dataclass(frozen=True)
class Reference:
    """Another implementation of the same model, with the same weights."""

    forward: Callable[[Batch], tuple[Tensor, Tensor]]
    """A batch to logits and mean loss."""
    parameters: Mapping[str, Tensor]
    """Its parameters by their names on the Hub, to compare gradients."""


def assert_parity(module: ZooModule, reference: Reference, batch: Batch, **tolerance: Any) -> None:
    """Asserts equal logits at real tokens, equal loss, and an equal gradient of every parameter.

    Args:
        module: A built module.
        reference: What it must equal.
        batch: `input_ids`, `attention_mask` and `labels`; some row should be padded.
        tolerance: `rtol` and `atol`, where 1e-5 is not what is promised.

    Raises:
        AssertionError: It names what differs, and by how much.
    """
    tolerance = {"rtol": TOLERANCE, "atol": TOLERANCE, **tolerance}
    output = module(**batch)
    logits, loss = reference.forward(batch)
    real = batch["attention_mask"].bool()
    assert_close(output.logits[real], logits[real], **tolerance, msg=lambda text: f"logits: {text}")
    assert_close(output.loss, loss, **tolerance, msg=lambda text: f"loss: {text}")
    torch.autograd.backward((output.loss, loss))
    ours = module.hub_tensors()
    assert ours.keys() == reference.parameters.keys(), "the two models name other parameters"
    for name, theirs in reference.parameters.items():
        assert theirs.grad is not None, f"the reference gives {name} no gradient"
        mine = ours[name].grad
        assert mine is not None, f"{name} gets no gradient"
        assert_close(mine, theirs.grad, **tolerance, msg=functools.partial("gradient of {}: {}".format, name))


def padded_batch(vocab_size: int, *, length: int = 12, seed: int = 0) -> Batch:
    """Three rows of random ids, one whole, one padded on the right, one of a single token less padded."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(3, vocab_size, (3, length), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, length // 2 :] = 0
    attention_mask[2, 3:] = 0
    labels = input_ids.masked_fill(attention_mask == 0, -100)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
