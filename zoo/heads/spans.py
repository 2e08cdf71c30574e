"""Spans of words under labels such as B-PER and I-PER, counted as CoNLL's script and seqeval count them.

Ramshaw and Marcus, 1995: https://aclanthology.org/W95-0107
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics import SumMetric

from zoo.heads.base import Batch, Loss, Metrics
from zoo.layers import IGNORED

Span = tuple[str, int, int]
"""A kind, and the numbers of the first and the last word."""


def spans(labels: Sequence[str]) -> list[Span]:
    """The spans of a row's labels. One that begins with `I-`, as a model may say, is a span, too."""
    found: list[Span] = []
    before, kind_before = "O", ""
    for number, label in enumerate(labels):
        tag, kind = label[0], label[1:].split("-", 1)[-1] or "_"
        if tag != "O":
            if tag in "BS" or before in "ESO" or kind != kind_before:
                found.append((kind, number, number))
            else:
                found[-1] = (kind, found[-1][1], number)
        before, kind_before = tag, kind
    return found


class SpanMetrics(Metrics):
    """Loss in nats per word, accuracy of words, and precision, recall and F1 of spans of all kinds together.

    Args:
        labels: Their names, by number.
    """

    NAMES = ("nats", "words", "right", "spans_told", "spans_there", "spans_right")

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self.labels = labels
        self.sums = nn.ModuleDict({name: SumMetric() for name in self.NAMES})

    def update(self, loss: Loss, batch: Batch) -> None:
        """Counts one batch; `labels` and `predicted` of its loss are (batch, tokens)."""
        assert loss.labels is not None
        assert loss.predicted is not None
        counts = dict.fromkeys(self.NAMES, 0.0)
        counts["nats"], counts["words"] = float(loss.total.detach()), float(loss.num_labels)
        for row, guessed in zip(loss.labels, loss.predicted, strict=True):
            is_word = row != IGNORED
            there, told = (
                set(spans([self.labels[number] for number in numbers[is_word].tolist()]))
                for numbers in (row, guessed)
            )
            counts["right"] += float((row == guessed)[is_word].sum())
            counts["spans_told"] += len(told)
            counts["spans_there"] += len(there)
            counts["spans_right"] += len(told & there)
        for name, count in counts.items():
            self.sums[name].update(count)  # type: ignore[operator]

    def compute(self) -> dict[str, Tensor]:
        """The measures by name."""
        sums = {name: metric.compute() for name, metric in self.sums.items()}  # type: ignore[operator]
        words, right = sums["words"].clamp(min=1), sums["spans_right"]
        told, there = sums["spans_told"], sums["spans_there"]
        return {
            "loss": sums["nats"] / words,
            "accuracy": sums["right"] / words,
            "precision": right / told.clamp(min=1),
            "recall": right / there.clamp(min=1),
            "f1": 2 * right / torch.clamp(told + there, min=1),
        }

    def reset(self) -> None:
        """Starts anew."""
        for metric in self.sums.values():
            metric.reset()  # type: ignore[operator]
