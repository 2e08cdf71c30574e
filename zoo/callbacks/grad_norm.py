"""The size of the gradient, before it is clipped."""

from collections.abc import Callable

import lightning as L
from torch import Tensor

from zoo.training.clipping import GradientWatcher


class GradNorm(GradientWatcher):
    """Logs `grad_norm`, the 2-norm over all parameters.

    Args:
        every_n_steps: Optimizer steps between figures.
    """

    def __init__(self, every_n_steps: int = 20) -> None:
        self.every_n_steps = every_n_steps

    def on_gradient_norm(
        self, trainer: L.Trainer, pl_module: L.LightningModule, norm: Callable[[], Tensor]
    ) -> None:
        """Measures every so many steps."""
        if trainer.global_step % self.every_n_steps == 0:
            pl_module.log("grad_norm", norm())
