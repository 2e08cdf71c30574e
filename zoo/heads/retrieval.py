"""How well vectors tell which texts belong together, and which of many answers a question.

Thakur et al., 2021: https://arxiv.org/abs/2104.08663
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric, PearsonCorrCoef

from zoo.heads.base import Batch, Loss, Metrics
from zoo.heads.comparing import spearman

CUT, DEEP = 10, 100
"""Places that nDCG and the reciprocal rank look at, and that a deep recall does."""


class EmbeddingMetrics(Metrics):
    """Of pairs with a score its correlations, of others accuracy, of a search nDCG, recall and ranks.

    Of a search are kept the questions' vectors and the nearest texts of each so far; texts come and go. Every
    process searches all of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mean_loss, self.accuracy = MeanMetric(), MeanMetric()
        self.pearson, self.spearman = PearsonCorrCoef(), spearman()
        self.kind = ""
        self._start()

    def _start(self) -> None:
        self.questions: list[Tensor] = []
        self.relevant: list[Mapping[int, int]] = []
        self.scores: Tensor | None = None
        self.numbers: Tensor | None = None

    def update(self, loss: Loss, batch: Batch) -> None:
        """Counts one batch: of pairs; of questions, with the `relevant` texts of each by number; or of texts,
        with the `numbers` of each. Questions come first.
        """
        assert loss.predicted is not None
        if "relevant" in batch:
            self.questions.append(loss.predicted)
            self.relevant += batch["relevant"]
        elif "numbers" in batch:
            self._search(loss.predicted, batch["numbers"])
        elif loss.labels is not None and loss.labels.numel():
            self.mean_loss.update(loss.mean.detach(), weight=loss.num_labels)
            self.kind = "scores" if loss.labels.is_floating_point() else "pairs"
            if self.kind == "scores":
                self.pearson.update(loss.predicted, loss.labels)
                self.spearman.update(loss.predicted, loss.labels)
            else:
                self.accuracy.update(loss.predicted.float())

    def _search(self, texts: Tensor, numbers: Tensor) -> None:
        scores = torch.cat(self.questions) @ texts.T
        found = numbers.to(scores.device).expand(len(scores), -1)
        if self.scores is not None and self.numbers is not None:
            scores, found = torch.cat((self.scores, scores), 1), torch.cat((self.numbers, found), 1)
        self.scores, order = scores.topk(min(DEEP, scores.shape[1]))
        self.numbers = found.gather(1, order)

    def compute(self) -> dict[str, Tensor]:
        """The measures by name."""
        if self.numbers is not None:
            ranked = self.numbers.tolist()
            device = self.numbers.device
            return {
                name: torch.tensor(value, device=device)
                for name, value in measures(ranked, self.relevant).items()
            }
        if (
            not self.kind
        ):  # nothing was compared: a run's first look may end before the texts that are searched
            return {}
        more: dict[str, Metric] = {"accuracy": self.accuracy}
        if self.kind == "scores":
            more = {"pearson": self.pearson, "spearman": self.spearman}
        return {name: metric.compute() for name, metric in {"loss": self.mean_loss, **more}.items()}

    def reset(self) -> None:
        """Starts anew."""
        for metric in (self.mean_loss, self.accuracy, self.pearson, self.spearman):
            metric.reset()
        self._start()


def measures(ranked: Sequence[Sequence[int]], relevant: Sequence[Mapping[int, int]]) -> dict[str, float]:
    """Means over questions, as BEIR and MTEB take them.

    Args:
        ranked: The numbers of the texts that were found for each, the nearest first.
        relevant: The grades of those that answer it, by number.
    """
    rows = list(zip(ranked, relevant, strict=True))
    return {
        f"ndcg_at_{CUT}": fmean(ndcg(found, grades) for found, grades in rows),
        f"recall_at_{CUT}": fmean(_recall(found[:CUT], grades) for found, grades in rows),
        f"recall_at_{DEEP}": fmean(_recall(found[:DEEP], grades) for found, grades in rows),
        f"mrr_at_{CUT}": fmean(_reciprocal_rank(found[:CUT], grades) for found, grades in rows),
    }


def ndcg(found: Sequence[int], grades: Mapping[int, int]) -> float:
    """The gain of the first places, beside the best there could be (Järvelin and Kekäläinen, 2002)."""
    gained = _gain([grades.get(number, 0) for number in found[:CUT]])
    best = _gain(sorted(grades.values(), reverse=True)[:CUT])
    return gained / best if best else 0.0


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(place + 2) for place, grade in enumerate(grades))


def _recall(found: Sequence[int], grades: Mapping[int, int]) -> float:
    there = {number for number, grade in grades.items() if grade > 0}
    return len(there.intersection(found)) / len(there) if there else 0.0


def _reciprocal_rank(found: Sequence[int], grades: Mapping[int, int]) -> float:
    places = (place for place, number in enumerate(found, 1) if grades.get(number, 0) > 0)
    return 1 / first if (first := next(places, 0)) else 0.0
