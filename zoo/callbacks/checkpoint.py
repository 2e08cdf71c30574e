"""The run's checkpoint: one file, always the latest, and the one before it."""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch import callbacks

from zoo.training import preemption
from zoo.training.files import LAST
from zoo.training.preemption import PREEMPTED, Signals
from zoo.training.resuming import validation_is_due


class Checkpoint(callbacks.Checkpoint):
    """Keeps `last.ckpt` up to date, and saves when the run is asked to end: by Ctrl-C, SIGTERM or SLURM.

    It saves between optimizer steps only, where nothing is half done: a run goes on exactly from there.

    Args:
        every_n_train_steps: Saves so often in place of after validations and epochs.
        every_minutes: Saves besides, where so long nothing was saved; None: never.
    """

    def __init__(self, every_n_train_steps: int | None = None, every_minutes: float | None = 15.0) -> None:
        self.every_n_train_steps, self.every_minutes = every_n_train_steps, every_minutes
        self.path = Path(LAST)
        """The file."""
        self._signals = Signals()
        self._step_before = self._saved_step = 0
        self._saved_at = 0.0
        self._is_wanted = self._is_within_step = False

    @property
    def saved(self) -> Path | None:
        """The file, once this run has written it."""
        return self.path if self._saved_step else None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Chooses the run's folder."""
        self.path = Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints" / LAST

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts to watch clock and signals."""
        self._signals.watch()
        self._saved_at, self._saved_step = time.monotonic(), 0
        self._step_before = trainer.global_step

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Notes whether the batch will end a step."""
        self._step_before = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves after a step, or has what follows it first, a validation or the epoch's end, save."""
        self._is_within_step = trainer.global_step == self._step_before
        if self._is_within_step:
            return
        self._is_wanted |= self._is_due(trainer)
        progress = trainer.fit_loop.epoch_loop.batch_progress
        follows = trainer.is_last_batch or validation_is_due(
            trainer,
            batches=progress.current.ready,
            all_batches=progress.total.ready,
            epoch=trainer.current_epoch,
        )
        if self._is_wanted and not follows:
            self._save(trainer)

    def _is_due(self, trainer: L.Trainer) -> bool:
        minutes = (time.monotonic() - self._saved_at) / 60
        is_late = self.every_minutes is not None and minutes >= self.every_minutes
        is_due = self.every_n_train_steps is not None and trainer.global_step % self.every_n_train_steps == 0
        is_end = trainer.should_stop or trainer.global_step == trainer.max_steps
        # The processes' clocks differ, and a signal may reach only some of them.
        urgent = is_late or self._signals.received is not None
        return is_due or is_end or trainer.strategy.reduce_boolean_decision(urgent, all=False)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Does not begin a validation when the run is to end: it is made up for when the run goes on."""
        self._save_if_to_end(trainer)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Breaks a validation off when the run is to end; several processes may be at different batches."""
        if trainer.world_size == 1:
            self._save_if_to_end(trainer)

    def _save_if_to_end(self, trainer: L.Trainer) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking or self._is_within_step:
            return
        if trainer.strategy.reduce_boolean_decision(self._signals.received is not None, all=False):
            self._save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves; amid a step, once that is done."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._is_wanted |= self.every_n_train_steps is None
            if self._is_wanted and not self._is_within_step:
                self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves what no validation followed."""
        is_new = trainer.global_step > self._saved_step
        if is_new and (self._is_wanted or self.every_n_train_steps is None):
            self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the last steps."""
        if trainer.global_step > self._saved_step:
            self._save(trainer)
        self._signals.unwatch()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Watches no longer."""
        self._signals.unwatch()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Watches no longer."""
        self._signals.unwatch()

    def _save(self, trainer: L.Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        trainer.save_checkpoint(self.path, weights_only=False)
        self._is_wanted, self._saved_at, self._saved_step = False, time.monotonic(), trainer.global_step
        self._end_if_asked(trainer)

    def _end_if_asked(self, trainer: L.Trainer) -> None:
        mine = self._signals.received
        is_interrupted = trainer.strategy.reduce_boolean_decision(mine == signal.SIGINT, all=False)
        is_preempted = trainer.strategy.reduce_boolean_decision(mine not in (None, signal.SIGINT), all=False)
        is_announced = trainer.strategy.reduce_boolean_decision(
            mine in (signal.SIGUSR1, signal.SIGUSR2), all=False
        )
        if not (is_interrupted or is_preempted):
            return
        if trainer.is_global_zero:
            print(
                f"zoo: interrupted at step {trainer.global_step}; everything so far is in {self.path}\n"
                f"  go on with the same command and --ckpt_path {self.path}",
                file=sys.stderr,
            )
            if is_announced:
                preemption.requeue()
        raise SystemExit(PREEMPTED) if is_preempted else KeyboardInterrupt
