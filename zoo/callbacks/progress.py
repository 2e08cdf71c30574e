"""The bar of a run: what it costs and how fast it goes."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import ProcessingSpeedColumn, RichProgressBarTheme

_SHORT = {
    "train/loss": "loss",
    "tokens_per_second": "tokens/s",
    "data_wait": "waits",
    "memory_gib": "GiB",
    "mfu": "MFU",
}


class Progress(RichProgressBar):
    """Lightning's bar under one line about the run, with short names, gone before anything else is printed.

    Args:
        refresh_rate: Batches between looks.
    """

    def __init__(self, refresh_rate: int = 5) -> None:
        theme = RichProgressBarTheme(metrics="", metrics_text_delimiter="  ", metrics_format=".4g")
        super().__init__(refresh_rate=refresh_rate, theme=theme)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says what is trained, how, and where it writes."""
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        devices = f"{trainer.world_size} × {trainer.strategy.root_device.type}"
        if trainer.is_global_zero:
            print(
                f"{parameters / 1e6:.1f} million parameters, {devices}, {trainer.precision}; "
                f"writes to {trainer.log_dir or trainer.default_root_dir}"
            )
        super().on_train_start(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leaves the last figures on the screen and stops drawing."""
        super().on_train_end(trainer, pl_module)
        self.teardown(trainer, pl_module, "fit")

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        """Without batches per second: tokens per second say more."""
        columns = super().configure_columns(trainer)
        return [column for column in columns if not isinstance(column, ProcessingSpeedColumn)]

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bar."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return {_SHORT.get(name, name): _readable(value) for name, value in items.items()}


def _readable(value: int | str | float | dict[str, float]) -> int | str | float | dict[str, float]:
    return f"{value:,.0f}" if isinstance(value, float) and abs(value) >= 1000 else value
