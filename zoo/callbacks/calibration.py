"""Whether what a model is sure of is right.

Guo et al., 2017: https://arxiv.org/abs/1706.04599
"""

from typing import TYPE_CHECKING

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.callbacks.looking import Looking, boards, new_figure, require_pictures
from zoo.data.base import require_least
from zoo.heads.base import Batch, Look
from zoo.modules.base import ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Bins(Metric):
    """Answers by how sure the head is of them; torchmetrics' calibration error would keep every one.

    Args:
        number: Bins of equal width from 0 to 1.
    """

    answers: Tensor
    right: Tensor
    confidence: Tensor

    def __init__(self, number: int) -> None:
        super().__init__()
        for name in ("answers", "right", "confidence"):
            self.add_state(name, torch.zeros(number), dist_reduce_fx="sum")

    def update(self, confidence: Tensor, is_right: Tensor) -> None:
        """Counts some answers."""
        places = (confidence * len(self.answers)).long().clamp(max=len(self.answers) - 1)
        ones = torch.ones_like(confidence)
        for sums, values in (
            (self.answers, ones), (self.right, is_right.float()), (self.confidence, confidence),
        ):  # fmt: skip
            sums.index_add_(0, places, values)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Answers of each bin, the share of them that is right, and their mean confidence, (bins) each."""
        number = self.answers.clamp(min=1)
        return self.answers, self.right / number, self.confidence / number


class Calibration(Looking[Bins]):
    """Draws how much is right of what a head is so sure of, and logs the mean gap as `calibration_error`.

    Args:
        num_bins: Of equal width, from 0 to 1.

    Raises:
        ZooError: The extra `pictures` is missing.
    """

    def __init__(self, num_bins: int = 15) -> None:
        super().__init__()
        require_least("num_bins", num_bins, 1)
        require_pictures(self)
        self.num_bins = num_bins

    def start(self, look: Look, module: ZooModule) -> Bins | None:
        """Empty bins."""
        return None if look.confidence is None else Bins(self.num_bins).to(module.device)

    def add(self, kept: Bins, look: Look, batch: Batch, module: ZooModule) -> None:
        """Counts one batch."""
        assert look.predicted is not None
        assert look.labels is not None
        assert look.confidence is not None
        kept.update(look.confidence, look.predicted.eq(look.labels))

    def show(self, kept: Bins, name: str, trainer: L.Trainer, module: ZooModule) -> None:
        """Draws the bins."""
        answers, right, confidence = (part.cpu() for part in kept.compute())
        error = float((answers * (right - confidence).abs()).sum() / answers.sum().clamp(min=1))
        module.log(f"{name}calibration_error", error, rank_zero_only=False)
        for board in boards(trainer):
            drawn = draw(answers, right, confidence, error)
            board.add_figure(f"{name}calibration", drawn, trainer.global_step)


def draw(answers: Tensor, right: Tensor, confidence: Tensor, error: float) -> "Figure":
    """A reliability diagram over the number of answers in each bin.

    Args:
        answers: In each bin, (bins).
        right: The share of them that is right.
        confidence: Their mean confidence.
        error: The mean gap between both.
    """
    counts, shares, means = (part.numpy() for part in (answers, right, confidence))
    figure = new_figure(5, 5.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 1 / len(counts)
    places = (np.arange(len(counts)) + 0.5) * width
    is_filled = counts > 0
    above.bar(places, shares, width, edgecolor="white", color="#3b6ea5", label="right")
    above.plot([0, 1], [0, 1], color="#6b6b6b", linestyle="--", linewidth=1, label="as sure as right")
    above.plot(means[is_filled], shares[is_filled], "o", color="#d1702d", markersize=4, label="mean of a bin")
    above.set(ylabel="share that is right", ylim=(0, 1), xlim=(0, 1), title=f"calibration error {error:.3f}")
    above.legend(frameon=False, loc="upper left")
    below.bar(places, counts, width, edgecolor="white", color="#6b6b6b")
    below.set(xlabel="how sure the model is", ylabel="answers")
    return figure
