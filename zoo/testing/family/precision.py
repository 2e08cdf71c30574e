"""The same numbers, computed otherwise: in bfloat16, or compiled."""

import torch
from torch import Tensor

from zoo.modules.base import ZooModule
from zoo.testing.checks import slow
from zoo.testing.families import Family, require_alike


@torch.no_grad()
def bfloat16_agrees_with_float32(family: Family) -> None:
    """Under autocast to bfloat16, and with weights in it, hidden states are within three percent."""
    module, batch = family.fresh().eval(), family.batch()
    real = family.written_mask(batch)
    expected = module.hidden_states(batch)[real]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module.hidden_states(batch)[real]
    require_alike(mixed, expected, "hidden states in bfloat16 and float32", 0.03)
    whole = module.to(torch.bfloat16).hidden_states(batch)[real]
    require_alike(whole, expected, "hidden states of bfloat16 and float32 weights", 0.03)


@slow
def compiled_agrees_with_eager(family: Family) -> None:
    """Compiled blocks give the loss and the gradients of eager ones, padded and packed."""
    batch = family.batch()
    packed = {**batch}
    for name in ("attention_mask", "decoder_attention_mask"):
        if name in batch:
            half = batch[name].shape[1] // 2
            packed[name] = torch.ones_like(batch[name])
            packed[name][:, half:] = 2
    torch.compiler.reset()
    try:
        eager, compiled = family.fresh(), family.fresh(compile=True)
        for given in (batch, packed):
            expected, found = (_step(module, given) for module in (eager, compiled))
            for name, tensor in expected.items():
                require_alike(found[name], tensor, f"{name} compiled and eager", 1e-4)
    finally:
        torch.compiler.reset()


def _step(module: ZooModule, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    module.zero_grad()
    loss = module.head().loss(module.hidden_states(batch), batch).mean
    torch.autograd.backward(loss)
    slopes = {f"the gradient of `{name}`": part.grad for name, part in module.named_parameters()}
    return {"the loss": loss.detach(), **{name: slope for name, slope in slopes.items() if slope is not None}}
