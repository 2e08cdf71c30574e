"""What a run tells of itself: curves, measures and on how many rows, hardware, versions, data."""

import platform
from collections.abc import Iterable
from importlib import metadata
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from zoo import registry
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.training.sharding import own_class, place_among

if TYPE_CHECKING:
    from zoo.modules.base import ZooModule

Curve = list[tuple[int, float]]
"""Steps and the figure that was reached."""

MOST_POINTS = 1000
"""Of a curve; a longer one keeps every second."""


class Recording(Callback):
    """Keeps a run's figures in its checkpoints, for the card. `ZooModule` brings it to any Trainer."""

    def __init__(self) -> None:
        self.curves: dict[str, Curve] = {}
        """Losses and all that validation measured, by their names in the log."""
        self.num_rows: dict[str, int] = {}
        """Rows with a label that each head's last validation saw, by what precedes the measure's name."""
        self.facts: dict[str, Any] = {}
        """Hardware, precision, versions and data."""
        self._stride: dict[str, int] = {}
        self._counted: dict[str, Any] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes what the run is made of."""
        parts = list(getattr(trainer.datamodule, "parts", {}).values())  # type: ignore[attr-defined]
        self.facts = {
            "hardware": f"{trainer.world_size} × {_named(trainer.strategy.root_device)}",
            "precision": str(trainer.precision),
            "versions": versions(pl_module, *parts, *trainer.callbacks),  # type: ignore[attr-defined, arg-type]
            "data": {name: commit for part in parts for name, commit in _sources(part)},
        }

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Keeps the losses as often as they are logged."""
        step = trainer.global_step
        if step == 0 or step % max(trainer.log_every_n_steps, 1):  # type: ignore[attr-defined]
            return
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train/"):
                self._add(name, step, float(value))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts anew."""
        self._counted = {}

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts the rows that bear a label."""
        if "labels" not in batch:
            return
        has_several = len(pl_module.heads) > 1  # type: ignore[arg-type]
        prefix = f"val/{batch['head']}/" if has_several else "val/"
        labels = batch["labels"].reshape(len(batch["labels"]), -1)
        self._counted[prefix] = self._counted.get(prefix, 0) + (labels != IGNORED).any(-1).sum()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds up what all processes counted; those that share a model have counted the same rows."""
        if trainer.sanity_checking:
            return
        _, num_readers = place_among(trainer)
        for prefix, count in sorted(self._counted.items()):
            total = trainer.strategy.reduce(count, reduce_op="sum")
            self.num_rows[prefix] = int(total) * num_readers // trainer.world_size

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keeps what was measured."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/"):
                self._add(name, trainer.global_step, float(value))

    def _add(self, name: str, step: int, value: float) -> None:
        curve, stride = self.curves.setdefault(name, []), self._stride.get(name, 1)
        if curve and (step <= curve[-1][0] or (name.startswith("train/") and step - curve[-1][0] < stride)):
            return
        curve.append((step, value))
        if len(curve) > MOST_POINTS:
            self.curves[name] = curve[::2]
            self._stride[name] = curve[2][0] - curve[0][0]

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "curves": {name: list(curve) for name, curve in self.curves.items()},
            "num_rows": dict(self.num_rows),
            "facts": dict(self.facts),
            "stride": dict(self._stride),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self.curves = {name: [(step, value) for step, value in c] for name, c in state_dict["curves"].items()}
        self.num_rows, self._stride = dict(state_dict["num_rows"]), dict(state_dict["stride"])
        self.facts = self.facts or dict(state_dict["facts"])


def _sources(part: Any) -> Iterable[tuple[str, str | None]]:
    """Of the zoo's data; others tell none."""
    sources: dict[str, str | None] = getattr(part, "sources", {})
    return sources.items()


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def versions(module: "ZooModule", *others: object) -> dict[str, str]:
    """Of the zoo, of every plugin that brings a part of a module or one of the others, and of what computes.

    Args:
        module: The model.
        others: Data and callbacks.
    """
    parts = (module.spec, *module.head_specs.values(), module.lr_schedule, *others)
    used = {own_class(module), *map(type, parts)}
    plugins = {
        entry.distribution: entry.version
        for entry in registry.entries()
        if any(entry.is_value(kind) for kind in used)
    }
    return {
        registry.DISTRIBUTION: metadata.version(registry.DISTRIBUTION),
        **dict(sorted(plugins.items())),
        "torch": str(torch.__version__),
        "lightning": metadata.version("lightning"),
        "Python": platform.python_version(),
    }
