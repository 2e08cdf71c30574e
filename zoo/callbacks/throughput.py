"""How fast a run goes, and what it waits for."""

import resource
import sys
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule
from zoo.training import flops
from zoo.training.sharding import place_among

WORTH_A_LOOK = 0.05
"""Share of the time in which no batch was there, from which the bar tells it."""


class Throughput(Callback):
    """Logs figures over the last steps, validation and saving left out.

    `tokens_per_second` counts real tokens of all processes, `tokens_per_second_with_padding` all of them;
    `data_wait` is the share of time in which no batch was there; `memory_gib` the most memory that one
    process held; `mfu` the share of what the device could compute (zoo/training/flops.py has the
    convention), where that is known.

    Args:
        every_n_steps: Batches between figures.
    """

    def __init__(self, every_n_steps: int = 20) -> None:
        self.every_n_steps = every_n_steps
        self._flops: flops.StepFlops | None = None
        self._peak: float | None = None
        self._ended: float | None = None
        self._start()

    def _start(self) -> None:
        self._seconds = self._waited = 0.0
        self._padded = 0
        self._real: torch.Tensor | int = 0  # a tensor is not asked for its value before it is logged
        self._operations: torch.Tensor | int = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Looks up what the device could do."""
        self._peak = flops.peak(trainer.strategy.root_device, str(trainer.precision))
        if self._peak is not None and isinstance(pl_module, ZooModule):
            self._flops = flops.StepFlops(pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Counts the time since the last batch as waiting."""
        now = time.perf_counter()
        if self._ended is not None:
            self._waited += now - self._ended
            self._seconds += now - self._ended
        self._started = now

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Counts a batch, and logs every so many."""
        self._count(pl_module, batch)
        self._ended = time.perf_counter()
        self._seconds += self._ended - self._started
        if (batch_idx + 1) % self.every_n_steps == 0:
            self._log(trainer, pl_module)
            self._start()

    def _count(self, module: L.LightningModule, batch: Batch) -> None:
        if not isinstance(module, ZooModule):
            return
        for ids, real in module.read(batch):
            self._padded += ids.numel()
            self._real = self._real + (ids.numel() if real is None else (real > 0).sum())
        if self._flops is not None:
            self._operations = self._operations + self._flops(batch, (batch["labels"] != IGNORED).sum())

    def _log(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        _, num_readers = place_among(trainer)
        rate = num_readers / self._seconds
        module.log("tokens_per_second", float(self._real) * rate, prog_bar=True)
        module.log("tokens_per_second_with_padding", self._padded * rate)
        module.log("data_wait", self._waited / self._seconds, prog_bar=True)
        module.log("memory_gib", _memory(trainer.strategy.root_device) / 2**30, prog_bar=True)
        if self._peak is not None:
            module.log("mfu", float(self._operations) / self._seconds / self._peak, prog_bar=True)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What comes before the next batch is no waiting for data."""
        self._ended = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nor is what came with it."""
        self._ended = None

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Nor is saving."""
        self._ended = None


def _memory(device: torch.device) -> int:
    """The most bytes that this process held: of the device's memory, or of the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
