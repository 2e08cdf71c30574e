"""The size of the gradient, before it is clipped."""

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer


class GradNorm(Callback):
    """Logs `grad_norm`, the 2-norm over all parameters.

    Args:
        every_n_steps: Optimizer steps between figures.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Measures every so many steps."""
        if trainer.global_step % self.every_n_steps == 0:
            gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
            pl_module.log("grad_norm", torch.nn.utils.get_total_norm(gradients))
