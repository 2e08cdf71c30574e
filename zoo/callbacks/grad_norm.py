"""The size of the gradient, before it is clipped."""

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer

from zoo.training.clipping import total_norm


class GradNorm(Callback):
    """Logs `grad_norm`, the 2-norm over all parameters.

    Args:
        every_n_steps: Optimizer steps between figures.
    """

    def __init__(self, every_n_steps: int = 20) -> None:
        self.every_n_steps = every_n_steps

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Measures every so many steps."""
        if trainer.global_step % self.every_n_steps == 0:
            pl_module.log("grad_norm", total_norm(pl_module.parameters()))
