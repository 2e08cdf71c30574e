"""What `zoo test` measured, as a file."""

import json
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback


class MetricsFile(Callback):
    """Writes the measures of a test to metrics.json in the run's folder; Lightning prints them as a table."""

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes them, and says where they are."""
        if not trainer.is_global_zero:
            return
        path = Path(trainer.log_dir or trainer.default_root_dir, "metrics.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        measured = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        path.write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
        print(f"measures: {path}")
