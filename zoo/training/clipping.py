"""Gradients made smaller, on one process or spread over many in several ways.

Torch's own functions take tensors that are all spread alike, and Lightning calls no others.
"""

import functools
from collections.abc import Callable, Iterable

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from zoo.training.sharding import alike


class GradientWatcher(Callback):
    """A callback that may ask for the 2-norm of a step's gradient, which is computed once for all who do.

    It is called after every other hook that may change the gradient, and before it is clipped.
    """

    def on_gradient_norm(
        self, trainer: L.Trainer, pl_module: L.LightningModule, norm: Callable[[], Tensor]
    ) -> None:
        """Looks at the norm; what it takes from `parameter.grad` is not in the step."""

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Computes the norm itself for modules that tell none."""
        if not getattr(pl_module, "tells_gradient_norm", False):
            self.on_gradient_norm(trainer, pl_module, norm_of(pl_module))


def norm_of(module: nn.Module) -> Callable[[], Tensor]:
    """The 2-norm of all its gradients, computed when it is first asked for."""
    return functools.cache(lambda: total_norm(module.parameters()))


def watchers(trainer: L.Trainer) -> list[GradientWatcher]:
    """A run's callbacks that are told the norm, in their order."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, GradientWatcher)]


def unscale(optimizer: Optimizer, trainer: L.Trainer) -> None:
    """Divides gradients by the factor that keeps float16's from vanishing.

    A fused optimizer would do so itself, but after they are clipped; of others Lightning has seen to it.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and optimizer.defaults.get("fused"):
        scaler.unscale_(optimizer)


@torch.no_grad()
def total_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The 2-norm of all gradients, the same on every process."""
    norms = []
    for group in alike(parameters):
        gradients = [parameter.grad for parameter in group if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    return nn.utils.get_total_norm(norms)


def clip_norm(parameters: Iterable[nn.Parameter], limit: float, norm: Tensor) -> None:
    """Scales all gradients by one factor, so that `norm`, their 2-norm, becomes `limit` where it is more."""
    for group in alike(parameters):
        nn.utils.clip_grads_with_norm_(group, limit, norm)


def clip_value(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Moves each gradient into [-limit, limit]."""
    for group in alike(parameters):
        nn.utils.clip_grad_value_(group, limit)
