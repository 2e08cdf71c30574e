"""Measures that compare what a head holds likeliest with what is right."""

import warnings

from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, SpearmanCorrCoef

from zoo.heads.base import Batch, Loss, Metrics


class ComparingMetrics(Metrics):
    """The mean loss, and measures of torchmetrics by name.

    Args:
        measures: Each takes `predicted` and `labels` of a batch's loss.
    """

    def __init__(self, **measures: Metric) -> None:
        super().__init__()
        self.mean_loss = MeanMetric()
        self.measures = nn.ModuleDict(measures)

    def update(self, loss: Loss, batch: Batch) -> None:
        """Counts one batch."""
        assert loss.labels is not None
        assert loss.predicted is not None
        if loss.labels.numel():
            self.mean_loss.update(loss.total.detach() / loss.num_labels, weight=loss.num_labels)
            for measure in self.measures.values():
                measure.update(loss.predicted, loss.labels)  # type: ignore[operator]

    def compute(self) -> dict[str, Tensor]:
        """The measures by name."""
        measures = {name: measure.compute().float() for name, measure in self.measures.items()}  # type: ignore[operator]
        return {"loss": self.mean_loss.compute(), **measures}

    def reset(self) -> None:
        """Starts anew."""
        for measure in (self.mean_loss, *self.measures.values()):
            measure.reset()  # type: ignore[operator]


def spearman() -> Metric:
    """The correlation of ranks, which keeps two numbers of each text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that it keeps them
        return SpearmanCorrCoef()
