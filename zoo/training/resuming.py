"""Exact resume: a run that was killed ends bit for bit where it would have ended.

Weights, optimizer and schedule are in every checkpoint of Lightning's, and data keep their place themselves
(`zoo.data.loading`). Added here are the generators of random numbers, and the loops' counters in a form from
which Lightning goes on with what was still to be done.
"""

from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from zoo.training import randomness
from zoo.training.files import AtomicCheckpointIO
from zoo.training.restoring import names_of

KEY = "resume"
"""Where a checkpoint keeps what is added here."""

OPTIMIZED = "optimized"
"""There, the names of the parameters that an optimizer knows by number."""


class ExactResume(Callback):
    """Makes every checkpoint one to resume from exactly. `ZooModule` brings it to any Trainer."""

    def __init__(self) -> None:
        self._random: randomness.State | None = None
        self._num_processes = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Writes checkpoints atomically, where nobody chose another way."""
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds every process's random numbers and parameters' names, and puts the counters right."""
        mine = randomness.capture()
        states = [mine] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(states, mine)
        groups = [names for optimizer in trainer.optimizers for names in names_of(pl_module, optimizer)]
        checkpoint[KEY] = {"random": states, OPTIMIZED: [name for names in groups for name in names]}
        if trainer.state.fn == "fit":
            settle(checkpoint["loops"]["fit_loop"], trainer)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the random numbers until the first step."""
        states = checkpoint.get(KEY, {}).get("random", [])
        self._num_processes = len(states)
        if len(states) == trainer.world_size:
            self._random = states[trainer.global_rank]
        elif states and trainer.state.fn == "fit":
            rank_zero_warn(
                f"The checkpoint is of a run on {len(states)} processes, this one on {trainer.world_size}: "
                "it goes on with the examples that are left, each once, but not with the same bits."
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tells the data where an epoch ends, and Lightning, on more or fewer processes, what was done."""
        loader: Any = trainer.train_dataloader
        if not hasattr(loader, "batches_done"):
            return
        loader.limit = trainer.num_training_batches
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        if self._num_processes not in (0, trainer.world_size) and progress.ready:
            shift = min(loader.batches_done, trainer.num_training_batches) - progress.ready
            for name in ("ready", "started", "processed", "completed"):
                setattr(progress, name, getattr(progress, name) + shift)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Goes on with the random numbers that were due, whatever has drawn some since."""
        self._restore()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same, where a validation was due."""
        if not trainer.sanity_checking:
            self._restore()

    def _restore(self) -> None:
        if self._random is not None:
            randomness.restore(self._random)
            self._random = None


def validation_is_due(trainer: L.Trainer, *, batches: int, all_batches: int, epoch: int) -> bool:
    """Whether a validation follows by the Trainer's rule.

    Args:
        trainer: Its rule.
        batches: That are done in the epoch.
        all_batches: That are done in all epochs.
        epoch: From 0.
    """
    every_epochs, every_batches = trainer.check_val_every_n_epoch, trainer.val_check_batch
    if not trainer.enable_validation or every_batches is None:
        return False
    if every_epochs is not None and (epoch + 1) % every_epochs:
        return False
    if every_batches == float("inf"):
        return trainer.is_last_batch
    return (all_batches if every_epochs is None else batches) % every_batches == 0


def settle(loops: dict[str, Any], trainer: L.Trainer) -> None:
    """Puts the loops' counters in one of two forms from which Lightning 2.6 goes on without loss.

    Left as they are, a validation that was due is skipped, a batch too many is trained where the epoch was
    over, or an epoch ends twice.

    Args:
        loops: The state of the fit loop, after an optimizer step and before the next batch.
        trainer: In the state in which it saves.
    """
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    validation, steps = loops["epoch_loop.val_loop.batch_progress"], loops["epoch_loop.state_dict"]
    epoch = epochs["current"]["ready"] - 1
    if epoch < 0:  # nothing was trained
        return
    epoch_is_over = epochs["current"]["processed"] == epochs["current"]["ready"]
    in_training = batches["total"]["completed"] < batches["total"]["ready"]
    is_validated = (
        not in_training
        and validation["is_last_batch"]
        and validation["current"]["completed"] == validation["current"]["ready"] > 0
    )
    done, all_done = batches["current"]["ready"], batches["total"]["ready"]
    is_due = validation_is_due(trainer, batches=done, all_batches=all_done, epoch=epoch)
    is_last = done == trainer.num_training_batches or batches["is_last_batch"]

    _level(batches)
    if is_last and (epoch_is_over or not is_due):
        _level(epochs)
        batches["current"] = dict.fromkeys(batches["current"], 0)
        batches["is_last_batch"] = False
        # Lightning looks for a due validation before the first batch, and counts the step.
        counts = trainer.max_steps != -1 and validation_is_due(
            trainer, batches=0, all_batches=all_done, epoch=epoch + 1
        )
        steps["_batches_that_stepped"] += (0 if epoch_is_over else 1) - counts
        return
    for count in (epochs["current"], epochs["total"]):
        count["processed"] = count["completed"] = count["ready"] - 1
    if is_due and not is_validated and not epoch_is_over:
        for count in (validation["current"], validation["total"]):
            count.update(dict.fromkeys(count, 0))
        validation["total"].update(ready=1, started=1)
        validation["is_last_batch"] = False
    # Lightning counts the step after a validation that was due, and otherwise before.
    steps["_batches_that_stepped"] += int(not is_due) - int(epoch_is_over)


def _level(progress: dict[str, Any]) -> None:
    """Completes what is ready."""
    for count in (progress["current"], progress["total"]):
        count.update(dict.fromkeys(count, count["ready"]))
