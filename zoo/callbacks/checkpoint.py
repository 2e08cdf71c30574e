"""The run's checkpoint: one file, always the latest."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint


class Checkpoint(ModelCheckpoint):
    """Keeps `last.ckpt` up to date: after each validation, at the end, and when the run is interrupted.

    Args:
        every_n_train_steps: Saves so often in place of after validations.
    """

    def __init__(self, every_n_train_steps: int | None = None) -> None:
        super().__init__(
            filename=self.CHECKPOINT_NAME_LAST,
            every_n_train_steps=every_n_train_steps,
            save_on_exception=True,
            enable_version_counter=False,
        )
        self._saved_step = 0

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remembers the step."""
        self._saved_step = trainer.global_step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the steps that no validation followed."""
        if trainer.global_step > self._saved_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.format_checkpoint_name({}))

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Saves, and says where, if it was Ctrl-C."""
        if trainer.global_step > 0:
            super().on_exception(trainer, pl_module, exception)
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero and trainer.training:
            path = Path(self.format_checkpoint_name({}))
            if path.is_file():
                print(
                    f"zoo: interrupted at step {trainer.global_step}; everything so far is in {path}\n"
                    f"  go on with the same command and --ckpt_path {path}",
                    file=sys.stderr,
                )
