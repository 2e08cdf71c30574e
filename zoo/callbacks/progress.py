"""The bar of a run: what it costs and how fast it goes."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from zoo.callbacks.throughput import WORTH_A_LOOK

BAR_WIDTH = 8
"""Characters; figures say more, and a line should hold them."""

DRAWN_SECONDS = 0.25
"""Between two looks at training; nobody reads faster."""

_SHORT = {"tokens_per_second": "tokens/s", "data_wait": "waits", "memory_gib": "GiB", "mfu": "MFU"}
_FORMS = {"tokens_per_second": ",.0f", "data_wait": ".0%", "memory_gib": ".1f", "mfu": ".0%"}


class Part(ProgressColumn):
    """Which epoch, where there are several, or that held-out data are read."""

    def __init__(self, trainer: L.Trainer) -> None:
        super().__init__()
        self.trainer = trainer

    def render(self, task: Task) -> Text:
        """A few words."""
        if not task.description.strip().startswith("Epoch"):
            return Text(task.description.strip())
        last, now = self.trainer.max_epochs or -1, self.trainer.current_epoch + 1
        return Text("" if last == 1 else f"epoch {now}/{last}" if last > 0 else f"epoch {now}")


class Progress(RichProgressBar):
    """Lightning's bar under one line about the run, with short names, gone before anything else is printed.

    Args:
        refresh_rate: Batches between looks; in training, `DRAWN_SECONDS` at least are between them.
    """

    def __init__(self, refresh_rate: int = 1) -> None:
        theme = RichProgressBarTheme(metrics="", metrics_text_delimiter=" ", metrics_format=".4g")
        super().__init__(refresh_rate=refresh_rate, theme=theme)
        self._drawn = -DRAWN_SECONDS

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

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draws where it is time to: Lightning asks for every figure, and draws, after each batch."""
        now, num_done = time.monotonic(), batch_idx + 1
        is_time = now - self._drawn >= DRAWN_SECONDS and num_done % max(self.refresh_rate, 1) == 0
        if is_time or num_done == trainer.num_training_batches:
            self._drawn = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leaves the last figures on the screen and stops drawing."""
        super().on_train_end(trainer, pl_module)
        self.teardown(trainer, pl_module, "fit")

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        """Few and narrow, so that the figures stand beside them on one line."""
        remaining = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
        return [Part(trainer), BarColumn(BAR_WIDTH), MofNCompleteColumn(), remaining]

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bar."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        if float(items.get("data_wait", 0)) < WORTH_A_LOOK:  # type: ignore[arg-type]
            items.pop("data_wait", None)
        return {_short(name): format(value, _FORMS.get(name, ".4g")) for name, value in items.items()}


def _short(name: str) -> str:
    """`loss` for `train/loss`, `val` for `val/loss`, `val package` for `val/package/loss`."""
    part, *rest = name.split("/")
    words = [word for word in (part, *rest) if word not in ("train", "loss")]
    return _SHORT.get(name, " ".join(words) or "loss")
