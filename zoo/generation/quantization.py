"""Weights of fewer bits, for writing where memory is short: torchao's, by one switch."""

from typing import Any, Literal, get_args

import torch
from torch import nn

from zoo.errors import GenerationError

Kind = Literal["int8", "int4"]
"""Whole numbers with a scale: for each output, or, of four bits, for each 32 inputs."""


def quantize(module: nn.Module, kind: Kind) -> None:
    """Replaces the weights of a network's `nn.Linear` by such of fewer bits; it can then only be run.

    Args:
        module: The network; its other weights stay as they are.
        kind: How many bits.

    Raises:
        GenerationError: The extra is not installed, or there is nothing to replace.
    """
    if kind not in get_args(Kind):
        raise GenerationError(f"weights can be made int8 or int4, got `{kind}`")
    if not any(isinstance(part, nn.Linear) for part in module.modules()):
        raise GenerationError("the model has no nn.Linear, whose weights could be made smaller")
    try:
        import torchao.quantization as torchao
    except ImportError as error:
        raise GenerationError(
            "weights of fewer bits need the extra `quantization`",
            hint="pip install 'lightning-zoo[quantization]'",
        ) from error
    with torch.inference_mode(False), torch.no_grad():
        torchao.quantize_(module, _config(torchao, kind, next(module.parameters())))


def _config(torchao: Any, kind: Kind, weight: torch.Tensor) -> Any:
    if kind == "int8":
        return torchao.Int8WeightOnlyConfig()
    if weight.is_cuda and weight.dtype == torch.bfloat16:
        return torchao.Int4WeightOnlyConfig(group_size=32, int4_packing_format="tile_packed_to_4d")
    # Elsewhere torchao has no kernel: four bits of precision in eight of memory.
    from torchao.quantization.granularity import PerGroup

    return torchao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32))  # type: ignore[attr-defined]
