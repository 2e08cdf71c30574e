"""Which label is told where which is right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from zoo.callbacks.looking import Looking, boards, new_figure, require_pictures
from zoo.data.base import require_least
from zoo.heads.base import Batch, Look
from zoo.modules.base import ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED = 20
"""Labels up to which the counts stand in their cells."""


@dataclass(frozen=True)
class Counts:
    """How often each label was told of rows of each."""

    names: Sequence[str]
    matrix: MulticlassConfusionMatrix


class ConfusionMatrix(Looking[Counts]):
    """Draws how often each label was told of rows of each, for heads that choose among labels.

    Of many labels those are drawn of which most was told wrong. It keeps a count for each pair of labels.

    Args:
        max_labels: How many are drawn.

    Raises:
        ZooError: The extra `pictures` is missing.
    """

    def __init__(self, max_labels: int = 30) -> None:
        super().__init__()
        require_least("max_labels", max_labels, 2)
        require_pictures(self)
        self.max_labels = max_labels

    def start(self, look: Look, module: ZooModule) -> Counts | None:
        """A count for each pair of labels."""
        if look.names is None:
            return None
        return Counts(look.names, MulticlassConfusionMatrix(len(look.names)).to(module.device))

    def add(self, kept: Counts, look: Look, batch: Batch, module: ZooModule) -> None:
        """Counts one batch."""
        assert look.predicted is not None
        assert look.labels is not None
        kept.matrix.update(look.predicted, look.labels)

    def show(self, kept: Counts, name: str, trainer: L.Trainer, module: ZooModule) -> None:
        """Draws the counts."""
        counts = kept.matrix.compute().cpu()
        for board in boards(trainer):
            drawn = draw(counts, kept.names, self.max_labels)
            board.add_figure(f"{name}confusion_matrix", drawn, trainer.global_step)


def draw(counts: Tensor, names: Sequence[str], max_labels: int) -> "Figure":
    """A confusion matrix, each row of it in shades of how much of it was told as what.

    Args:
        counts: (labels, labels), those that are right down, those that were told across.
        names: Of the labels.
        max_labels: How many are drawn.
    """
    wrong = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    shown = wrong.argsort(descending=True, stable=True)[:max_labels].sort().values
    left_out = len(names) - len(shown)
    counts = counts[shown][:, shown]
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    size = 2.5 + (0.45 if len(shown) <= NUMBERED else 0.25) * len(shown)
    figure = new_figure(size + 1, size)
    axes: Any = figure.subplots()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    ticks, labels = range(len(shown)), [names[number] for number in shown.tolist()]
    axes.set_xticks(ticks, labels, rotation=90)
    axes.set_yticks(ticks, labels)
    axes.set_xlabel("told")
    axes.set_ylabel("right" if not left_out else f"right ({left_out} labels with fewer mistakes left out)")
    figure.colorbar(image, ax=axes, label="share of the row", shrink=0.7)
    if len(shown) <= NUMBERED:
        for row, column in torch.nonzero(counts).tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, int(counts[row, column]), ha="center", va="center", color=colour, size=8)
    return figure
