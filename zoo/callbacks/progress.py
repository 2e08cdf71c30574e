"""The bar of a run: what it costs and how fast it goes."""

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme

_SHORT = {"train/loss": "loss", "tokens_per_second": "tokens/s"}


class Progress(RichProgressBar):
    """Lightning's bar, with short names and without the version of the run.

    Args:
        refresh_rate: Batches between looks.
    """

    def __init__(self, refresh_rate: int = 5) -> None:
        theme = RichProgressBarTheme(metrics="", metrics_text_delimiter="  ", metrics_format=".4g")
        super().__init__(refresh_rate=refresh_rate, theme=theme)

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bar."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return {
            _SHORT.get(name, name): f"{value:,.0f}"
            if isinstance(value, float) and abs(value) >= 1000
            else value
            for name, value in items.items()
        }
