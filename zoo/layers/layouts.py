"""How weights lie in memory, which changes no value and no shape."""

import torch
from torch import Tensor, nn


def lay_out_for_reading(module: nn.Module) -> None:
    """Lays the weights of products such that few tokens are multiplied fastest, once; others are left alone.

    With a row of outputs for each input, the product of one token reads a weight up to twice as fast as the
    other way round, where it has as many outputs as inputs or more (docs/performance.md). Values, shapes,
    gradients and optimizers are as before.

    Args:
        module: Its `nn.Linear` are laid out, where they are plain float32 weights in a processor's memory.
    """
    with torch.inference_mode(False), torch.no_grad():
        for part in module.modules():
            if type(part) is nn.Linear and _can_be_laid_out(part.weight):
                part.weight.data = part.weight.data.t().contiguous().t()


def _can_be_laid_out(weight: Tensor) -> bool:
    is_plain = type(weight) is nn.Parameter and type(weight.data) is Tensor
    return (
        is_plain
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.is_contiguous()
        and weight.shape[0] >= weight.shape[1] > 1
    )
