"""Tokens per second, in the bar and the logs."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from zoo.heads.base import Batch


class Throughput(Callback):
    """Logs `tokens_per_second` over the last steps, validation and saving left out.

    Args:
        every_n_steps: Steps between figures.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps
        self._tokens = 0
        self._seconds = 0.0
        self._started = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Stops the clock, and logs every so many steps."""
        self._seconds += time.perf_counter() - self._started
        self._tokens += batch["input_ids"].numel()
        if (batch_idx + 1) % self.every_n_steps == 0:
            rate = self._tokens * trainer.world_size / self._seconds
            pl_module.log("tokens_per_second", rate, prog_bar=True)
            self._tokens, self._seconds = 0, 0.0
