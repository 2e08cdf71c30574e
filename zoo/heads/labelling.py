"""Labels of whole texts: one of several, or any of several."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
    MultilabelExactMatch,
    MultilabelF1Score,
)

from zoo.heads.base import Batch, Look, Loss
from zoo.heads.comparing import ComparingMetrics
from zoo.heads.pooled import PooledHead
from zoo.layers import IGNORED
from zoo.specs import BackboneSpec
from zoo.tokenizer import Tokenizer


class SequenceClassificationHead(PooledHead):
    """A projection of one token's hidden state onto the labels, of which one holds."""

    def __init__(self, spec: BackboneSpec, labels: list[str]) -> None:
        super().__init__(spec, "SequenceClassification", len(labels))
        self.labels = labels

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Cross entropy of each text's label; `labels` (batch) by number, -100 is none."""
        labels_B = batch["labels"]
        logits_BV = self(hidden_BTD, batch).float()
        total = F.cross_entropy(logits_BV, labels_B, ignore_index=IGNORED, reduction="sum")
        is_labelled = labels_B != IGNORED
        return Loss(
            total, is_labelled.sum(), labels_B[is_labelled], logits_BV.detach().argmax(-1)[is_labelled]
        )

    def metrics(self) -> ComparingMetrics:
        """Loss in nats per text, accuracy, F1 averaged over the labels, Matthews' correlation."""
        number = len(self.labels)
        return ComparingMetrics(
            accuracy=MulticlassAccuracy(number, average="micro"),
            f1=MulticlassF1Score(number, average="macro"),
            mcc=MulticlassMatthewsCorrCoef(number),
        )

    def look(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> Look:
        """Each text's label, and the likeliest one."""
        is_labelled = batch["labels"] != IGNORED
        labels, logits = batch["labels"][is_labelled], self(hidden_BTD, batch).float()[is_labelled]
        confidence, predicted = logits.softmax(-1).max(-1)
        said, right = ([self.labels[number] for number in part.tolist()] for part in (predicted, labels))
        losses = F.cross_entropy(logits, labels, reduction="none")
        rows = is_labelled.nonzero().flatten()
        return Look(rows, losses, said, right, labels, predicted, confidence, self.labels)

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """The likeliest label of each text and its probability."""
        scores, numbers = self(hidden_BTD, batch).float().softmax(-1).max(-1)
        return [
            {"label": self.labels[number], "score": score}
            for number, score in zip(numbers.tolist(), scores.tolist(), strict=True)
        ]


class MultiLabelHead(PooledHead):
    """A projection of one token's hidden state onto the labels, each of which holds or does not."""

    def __init__(self, spec: BackboneSpec, labels: list[str]) -> None:
        super().__init__(spec, "SequenceClassification", len(labels))
        self.labels = labels

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Binary cross entropy of every label; `labels` (batch, labels) are 1 or 0, a row of -100 is none."""
        labels_BV = batch["labels"]
        is_labelled = (labels_BV != IGNORED).all(-1)
        logits_NV, labels_NV = self(hidden_BTD, batch).float()[is_labelled], labels_BV[is_labelled]
        total = F.binary_cross_entropy_with_logits(logits_NV, labels_NV.float(), reduction="sum")
        return Loss(total, labels_NV.numel(), labels_NV.long(), logits_NV.detach().sigmoid())

    def metrics(self) -> ComparingMetrics:
        """Loss in nats per label, texts of which all labels are right, F1 averaged over the labels."""
        number = len(self.labels)
        return ComparingMetrics(
            accuracy=MultilabelExactMatch(number),
            f1=MultilabelF1Score(number, average="macro"),
            f1_micro=MultilabelF1Score(number, average="micro"),
        )

    def look(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> Look:
        """Each text's labels, and those that hold likelier than not; every label is an answer of its own."""
        is_labelled = (batch["labels"] != IGNORED).all(-1)
        labels, logits = batch["labels"][is_labelled].long(), self(hidden_BTD, batch).float()[is_labelled]
        losses = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none").mean(-1)
        scores = logits.sigmoid()
        predicted = (scores >= 0.5).long()
        said, right = ([self._in_words(row) for row in part.tolist()] for part in (predicted, labels))
        confidence = torch.maximum(scores, 1 - scores).flatten()
        rows = is_labelled.nonzero().flatten()
        return Look(rows, losses, said, right, labels.flatten(), predicted.flatten(), confidence)

    def _in_words(self, holds: list[int]) -> str:
        return ", ".join(label for label, held in zip(self.labels, holds, strict=True) if held)

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """The labels of each text that hold likelier than not, and the probability of every label."""
        found = []
        for row in self(hidden_BTD, batch).float().sigmoid().tolist():
            scores = dict(zip(self.labels, row, strict=True))
            found.append(
                {"labels": [label for label, score in scores.items() if score >= 0.5], "scores": scores}
            )
        return found
