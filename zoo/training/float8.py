"""Products of blocks in float8: about twice as fast as bfloat16's on GPUs that have it, where they are large.

Micikevicius et al., 2022: https://arxiv.org/abs/2209.05433
"""

from typing import Any

import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn

from zoo.errors import RecipeError, SpecError
from zoo.layers import Linear
from zoo.training.blocks import blocks

LEAST = (8, 9)
"""The compute capability of GPUs that multiply float8: Ada's."""

MULTIPLE = 16
"""Of what their products' sizes must be a multiple."""


class Float8(MixedPrecision):
    """bf16-mixed, with the products of a model's blocks in float8, each tensor scaled by its largest number.

    Weights, names and checkpoints are those of bf16-mixed. Heads, embeddings, and products whose sizes are no
    multiples of 16 stay in bfloat16.

    Args:
        emulate: Rounds as float8 does and multiplies as always: slow, on any device, to try it out.
    """

    def __init__(self, emulate: bool = False) -> None:
        super().__init__("bf16-mixed", "cuda")
        self.emulate = emulate

    def require(self, device: torch.device) -> None:
        """Refuses an install or a device that cannot do it.

        Raises:
            RecipeError: With what is missing.
        """
        has_gpu = device.type == "cuda" and torch.cuda.get_device_capability(device) >= LEAST
        if not (self.emulate or has_gpu):
            name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
            raise RecipeError(
                "float8 needs a GPU of compute capability 8.9 or more (Ada, Hopper or newer), "
                f"this run is on {name}",
                at="trainer.plugins",
                hint="use presets/one-gpu-bf16; or emulate: true, which is slow, to try it out",
            )
        try:
            import torchao.float8  # noqa: F401
        except ImportError as error:
            raise RecipeError(
                "zoo.training.Float8 needs the extra `float8`",
                at="trainer.plugins",
                hint="pip install 'lightning-zoo[float8]'",
            ) from error

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Has the blocks' products computed in float8; once, as Lightning asks again where it shards.

        Raises:
            SpecError: There is none of fitting sizes.
        """
        strategy: Any = module.trainer.strategy  # type: ignore[union-attr]
        self.device = strategy.root_device.type
        self.require(strategy.root_device)
        convert(module, self.emulate)
        return module


def convert(module: nn.Module, emulate: bool) -> None:
    """Replaces the projections of a model's blocks by torchao's, which have the same weights and names."""
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    from torchao.float8.float8_linear import Float8Linear

    # Tokens are the inner size of a weight's gradient, and of any number.
    config = Float8LinearConfig(emulate=emulate, pad_inner_dim=True)
    for block in blocks(module):
        convert_to_float8_training(block, module_filter_fn=_fits, config=config)
    if not any(isinstance(part, Float8Linear) for part in module.modules()):
        raise SpecError(
            f"none of the model's projections has sizes that are multiples of {MULTIPLE}, as float8 needs",
            at="trainer.plugins",
            hint="use presets/one-gpu-bf16",
        )


def _fits(part: nn.Module, name: str) -> bool:
    sizes: Any = (part.in_features, part.out_features) if type(part) in (nn.Linear, Linear) else (1,)
    return all(size % MULTIPLE == 0 for size in sizes)
