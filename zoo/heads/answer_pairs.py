"""What heads that learn from pairs of answers share: which pairs count, and their measures."""

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from zoo.heads.base import Batch, Loss, Metrics, padded_rows
from zoo.layers import IGNORED
from zoo.specs import BackboneSpec

EXPECTED_FAILURES = dict.fromkeys(
    ("a_batch_loses_what_its_rows_lose", "measures_count_and_start_anew"),
    "a row is an answer, and a loss is that of a pair",
)
"""Checks of `zoo.testing` that take batches apart by rows."""


def example(backbone: BackboneSpec, answers: int = 2) -> Batch:
    """Three pairs, for `zoo.testing`."""
    batch = padded_rows(backbone.vocab_size, number=3 * answers)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
    return {**batch, "labels": labels.index_fill(1, torch.arange(4), IGNORED)}


def counted(labels_BT: Tensor, answers: int) -> Tensor:
    """Which pairs have all their answers, (pairs); of one that was cut, nothing may be left."""
    return (labels_BT[:, 1:] != IGNORED).any(-1).view(answers, -1).all(0)


class PairMetrics(Metrics):
    """Means over pairs: the loss, how often the better answer is preferred, and by how much."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.ModuleDict({name: MeanMetric() for name in ("loss", "accuracy", "margin")})

    def update(self, loss: Loss, batch: Batch) -> None:
        """Counts one batch, whose loss has the pairs' margins as `predicted`."""
        margins = loss.predicted
        assert margins is not None
        if margins.numel():
            found = {
                "loss": loss.mean.detach(),
                "accuracy": (margins > 0).float().mean(),
                "margin": margins.mean(),
            }
            for name, value in found.items():
                self.means[name].update(value, weight=margins.numel())  # type: ignore[operator]

    def compute(self) -> dict[str, Tensor]:
        """The measures by name."""
        return {name: mean.compute() for name, mean in self.means.items()}  # type: ignore[operator]

    def reset(self) -> None:
        """Starts anew."""
        for mean in self.means.values():
            mean.reset()  # type: ignore[operator]
