"""What callbacks share that show what heads say of held-out rows."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from zoo import registry
from zoo.errors import ZooError
from zoo.extras import require
from zoo.heads.base import Batch, Look
from zoo.modules.base import ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

S = TypeVar("S")
"""What is kept of a head's rows, of a size that does not grow with them."""


def boards(trainer: L.Trainer) -> Iterator[SummaryWriter]:
    """Where a run's pictures and texts go; of several processes the first one has such."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            yield logger.experiment


def new_figure(width: float, height: float) -> "Figure":
    """An empty picture, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def require_pictures(callback: Callback) -> None:
    """Refuses a callback that draws, where nothing draws.

    Raises:
        ZooError: With the extra that is missing.
    """
    require(registry.path_of(type(callback)), "pictures", "matplotlib")


class Looking(Callback, Generic[S]):
    """Keeps something of every batch of a validation or test, and shows it in TensorBoard at its end."""

    def __init__(self) -> None:
        self._kept: dict[str, S] = {}

    @abstractmethod
    def start(self, look: Look, module: ZooModule) -> S | None:
        """What is kept of a head's rows; None: such rows have nothing that could be."""

    @abstractmethod
    def add(self, kept: S, look: Look, batch: Batch, module: ZooModule) -> None:
        """Keeps something of one batch."""

    @abstractmethod
    def show(self, kept: S, name: str, trainer: L.Trainer, module: ZooModule) -> None:
        """Shows what was kept under a name; every process calls it."""

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts anew."""
        self._kept = {}

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps something of one batch."""
        assert isinstance(pl_module, ZooModule)
        if (look := pl_module.look(outputs)) is None:
            return
        head = outputs["head"]
        if head not in self._kept and (kept := self.start(look, pl_module)) is not None:
            self._kept[head] = kept
        if head in self._kept:
            self.add(self._kept[head], look, outputs["batch"], pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Shows what was kept, under `val/…`."""
        self._show("val", trainer, pl_module)

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Shows what was kept, under `test/…`."""
        self._show("test", trainer, pl_module)

    def _show(self, part: str, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, ZooModule)
        if not self._kept:
            heads = ", ".join(registry.path_of(type(spec)) for spec in module.head_specs.values())
            raise ZooError(
                f"{registry.path_of(type(self))} has nothing to show of {heads}",
                at="trainer.callbacks",
                hint="leave it out",
            )
        if not trainer.sanity_checking:
            for head, kept in sorted(self._kept.items()):
                self.show(kept, f"{part}/{module.prefix(head)}", trainer, module)
