"""A number of whole texts: how alike two sentences are, how good a review is."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanAbsoluteError, PearsonCorrCoef

from zoo.heads.base import Batch, Look, Loss
from zoo.heads.comparing import ComparingMetrics, spearman
from zoo.heads.pooled import PooledHead
from zoo.layers import IGNORED
from zoo.specs import BackboneSpec
from zoo.tokenizer import Tokenizer


class RegressionHead(PooledHead):
    """A projection of one token's hidden state onto one number."""

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__(spec, "SequenceClassification", 1)

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Squared error of each text's number; `labels` (batch) are any numbers, -100 is none."""
        labels_B = batch["labels"].float()
        is_labelled = labels_B != IGNORED
        numbers_N, labels_N = self(hidden_BTD, batch).float()[is_labelled, 0], labels_B[is_labelled]
        total = F.mse_loss(numbers_N, labels_N, reduction="sum")
        return Loss(total, labels_N.numel(), labels_N, numbers_N.detach())

    def metrics(self) -> ComparingMetrics:
        """Loss, mean absolute error, and the correlations of Pearson and of Spearman, which keeps the numbers
        that it ranks.
        """
        return ComparingMetrics(mae=MeanAbsoluteError(), pearson=PearsonCorrCoef(), spearman=spearman())

    def look(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> Look:
        """Each text's number, and the one that is told."""
        labels_B = batch["labels"].float()
        is_labelled = labels_B != IGNORED
        told, labels = self(hidden_BTD, batch).float()[is_labelled, 0], labels_B[is_labelled]
        said, right = ([f"{number:.2f}" for number in part.tolist()] for part in (told, labels))
        return Look(is_labelled.nonzero().flatten(), (told - labels).square(), said, right)

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """The number that is told of each text."""
        return [{"score": number} for number in self(hidden_BTD, batch).float()[:, 0].tolist()]
