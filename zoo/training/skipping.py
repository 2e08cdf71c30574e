"""How many rows a run left out because they are bad, of all its processes, also of those before a restart."""

import sys
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

KEY = "skipped_rows"
"""Where a checkpoint keeps which were met; what loggers call their number."""


class SkippedRows(Callback):
    """Counts rows that data leave out, logs their number, and tells it at the end.

    `ZooModule` brings it to any Trainer; it is silent unless data say `on_bad_row: skip`.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs how many there were."""
        self._log(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs how many there were; tells it, where nothing is trained."""
        if trainer.state.fn == "validate":
            self._tell(trainer)
        elif not trainer.sanity_checking:
            self._log(trainer)

    def _log(self, trainer: L.Trainer) -> None:
        if _skipping(trainer):
            count = self._count(trainer)
            for logger in trainer.loggers:
                logger.log_metrics({KEY: count}, step=trainer.global_step)

    def _count(self, trainer: L.Trainer) -> int:
        _share(trainer)
        return sum(bad.count for bad in _skipping(trainer).values())

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tells how many there were, and the first of them."""
        self._tell(trainer)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same."""
        self._tell(trainer)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The same."""
        self._tell(trainer)

    def _tell(self, trainer: L.Trainer) -> None:
        parts = _skipping(trainer)
        if parts and (count := self._count(trainer)) and trainer.is_global_zero:
            shown = [line for bad in parts.values() for line in bad.shown]
            lines = [f"zoo: {count} bad row{'s' if count > 1 else ''} left out", *shown[:3]]
            more = count - len(lines) + 1
            print("\n  ".join([*lines, *([f"and {more} more"] if more else [])]), file=sys.stderr)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps which were met; those that were read are read again."""
        if parts := _skipping(trainer):
            _share(trainer)
            checkpoint[KEY] = {
                name: {"met": sorted(bad.met), "shown": bad.shown} for name, bad in parts.items()
            }

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Goes on counting."""
        for name, bad in _skipping(trainer).items():
            saved = checkpoint.get(KEY, {}).get(name, {})
            bad.join(saved.get("met", ()), saved.get("shown", ()))


def _skipping(trainer: L.Trainer) -> dict[str, Any]:
    """What data leave out, by the names of their heads."""
    parts: dict[str, Any] = getattr(trainer.datamodule, "parts", {})  # type: ignore[attr-defined]
    bad = {name: getattr(part, "bad_rows", None) for name, part in parts.items()}
    return {name: rows for name, rows in bad.items() if rows is not None and rows.are_skipped}


def _share(trainer: L.Trainer) -> None:
    """Lets every process know of the rows that others met."""
    if trainer.world_size == 1:
        return
    mine = {name: (bad.met, bad.shown) for name, bad in _skipping(trainer).items()}
    states: list[Any] = [mine] * trainer.world_size
    torch.distributed.all_gather_object(states, mine)
    for name, bad in _skipping(trainer).items():
        for state in states:
            bad.join(*state[name])
