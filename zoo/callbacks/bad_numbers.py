"""What a run does when its loss or gradient is no number any more."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from zoo.callbacks.checkpoint import Checkpoint
from zoo.errors import TrainingError
from zoo.training.clipping import GradientWatcher


class BadNumbers(GradientWatcher):
    """Ends a run whose loss or gradient is not finite, before its weights are; or leaves such steps out.

    Args:
        skip: So many steps are left out, each with a warning, before the run is ended.
    """

    def __init__(self, skip: int = 0) -> None:
        self.skip = skip
        self.skipped = 0
        """Steps that were left out."""
        self._losses: list[Tensor] = []
        self._batches: list[str] = []

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Notes the loss and the batch that it is of."""
        self._losses.append(loss.detach())
        loader: Any = trainer.train_dataloader
        self._batches.append(loader.described() if hasattr(loader, "described") else "a batch")

    def on_gradient_norm(
        self, trainer: L.Trainer, pl_module: L.LightningModule, norm: Callable[[], Tensor]
    ) -> None:
        """Looks at the losses and the gradient of a step.

        Raises:
            TrainingError: They are not finite, and no more steps may be left out.
        """
        losses, batches, self._losses, self._batches = self._losses, self._batches, [], []
        # The scaler of float16 looks for gradients that are too large itself.
        norms = [] if trainer.precision == "16-mixed" else [norm().to(losses[0])]
        is_good = bool(torch.stack([*losses, *norms]).isfinite().all())
        if trainer.strategy.reduce_boolean_decision(is_good):
            return
        bad = [number for number, loss in enumerate(losses) if not loss.isfinite()]
        what = f"loss is {float(losses[bad[0]])}" if bad else f"gradient's norm is {float(norm())}"
        told = f"the {what} at step {trainer.global_step}"
        named = "; ".join(batches[number] for number in bad or range(len(batches)))
        if self.skipped < self.skip:
            self.skipped += 1
            rank_zero_warn(f"{told}: the step is left out ({self.skipped} of at most {self.skip}); {named}")
            for parameter in pl_module.parameters():
                parameter.grad = None
            return
        raise TrainingError(told, source=named, hint=_remedy(trainer))

    def state_dict(self) -> dict[str, Any]:
        """How many steps were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting."""
        self.skipped = state_dict["skipped"]


def _remedy(trainer: L.Trainer) -> str:
    saved = [callback.saved for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoint)]
    last = f"the last good checkpoint: {saved[0]}" if saved and saved[0] else "no checkpoint was saved yet"
    return (
        f"{last}\nlower the learning rate, clip gradients, or leave such steps out: zoo.callbacks.BadNumbers"
    )
