"""The head that says of which kind a text is.

Devlin et al., 2018, section 4.1: https://arxiv.org/abs/1810.04805
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from zoo.errors import SpecError
from zoo.heads.base import Batch, Head, Loss, Metrics
from zoo.layers import IGNORED
from zoo.specs import BackboneSpec, HeadSpec, Shape
from zoo.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class SequenceClassification(HeadSpec):
    """Tells one of several labels for a whole text."""

    labels: list[str] | None = None
    """Their names; None: those that the data has."""

    shapes: ClassVar[tuple[Shape, ...]] = ("encoder", "decoder", "encoder-decoder")
    task: ClassVar[str] = "text-classification"

    def __post_init__(self) -> None:
        if self.labels is None:
            return
        if len(self.labels) < 2:
            raise SpecError(f"`labels` must name at least two, got {self.labels}", at="labels")
        twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if twice:
            raise SpecError(f"`labels` must differ, got `{twice[0]}` twice", at="labels")

    def build(self, backbone: BackboneSpec) -> "SequenceClassificationHead":
        """The head for a backbone of these sizes.

        Raises:
            SpecError: The labels are not known.
        """
        if self.labels is None:
            raise SpecError(
                "zoo.heads.SequenceClassification knows no labels",
                at="labels",
                hint="give them, or train on data that names them",
            )
        return SequenceClassificationHead(backbone, self.labels)

    def with_labels(self, labels: Sequence[str]) -> Self:
        """The same head with the data's labels, where it names none.

        Raises:
            SpecError: They are fewer than two.
        """
        return replace(self, labels=list(labels)) if self.labels is None else self

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """The labels of config.json's `id2label`; the Hub's names for two, where it says nothing.

        Raises:
            SpecError: The checkpoint tells no label but numbers, or several labels at once.
        """
        names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
        kind = config.get("problem_type")
        if len(names) < 2 or kind not in (None, "single_label_classification"):
            raise SpecError(
                f"zoo.heads.SequenceClassification tells one of several labels, "
                f"config.json says {len(names)} and {kind or 'regression'}"
            )
        return cls(labels=[names[number] for number in sorted(names, key=int)])

    def to_hub(self) -> dict[str, Any]:
        """config.json's `id2label` and `label2id`."""
        labels = self.labels or []
        return {
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
        }


class SequenceClassificationHead(Head):
    """A projection of one token's hidden state onto the labels."""

    def __init__(self, spec: BackboneSpec, labels: list[str]) -> None:
        super().__init__()
        hub_head = spec.hub_head("SequenceClassification")
        self.labels = labels
        self.pooling = hub_head.pooling or ("first" if spec.shape == "encoder" else "last")
        eos = spec.eos_token_id
        self.eos_token_ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
        self.transform = hub_head.transform(spec) if hub_head.transform else nn.Identity()
        self.projection = nn.Linear(spec.hidden_size, len(labels), bias=hub_head.bias)

    def forward(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """Logits (batch, labels).

        Args:
            hidden_BTD: Hidden states.
            batch: `input_ids`, and `attention_mask` where some are padding.
        """
        logits: Tensor = self.projection(self.transform(self._pooled(hidden_BTD, batch)))
        return logits

    def _pooled(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """The hidden state that stands for each text, (batch, hidden_size)."""
        ids_BT = batch["input_ids"]
        worth_BT = batch.get("attention_mask", torch.ones_like(ids_BT)).long()
        if self.pooling == "mean":
            hidden_BD: Tensor = (hidden_BTD * worth_BT[..., None]).sum(1)
            return hidden_BD.div(worth_BT.sum(1, keepdim=True))
        if self.pooling == "eos":  # of a text that was cut before its end, the last token
            worth_BT = worth_BT + worth_BT * torch.isin(ids_BT, ids_BT.new_tensor(self.eos_token_ids))
        if self.pooling != "first":  # the last one among equals
            width = ids_BT.shape[1]
            worth_BT = worth_BT * width + torch.arange(width, device=ids_BT.device)
        rows_B = torch.arange(len(ids_BT), device=ids_BT.device)
        return hidden_BTD[rows_B, worth_BT.argmax(-1)]

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Cross entropy of each text's label; `labels` (batch) by number, -100 is none."""
        labels_B = batch["labels"]
        logits_BV = self(hidden_BTD, batch).float()
        total = F.cross_entropy(logits_BV, labels_B, ignore_index=IGNORED, reduction="sum")
        is_labelled = labels_B != IGNORED
        return Loss(
            total, is_labelled.sum(), labels_B[is_labelled], logits_BV.detach().argmax(-1)[is_labelled]
        )

    def metrics(self) -> "ClassificationMetrics":
        """Loss, accuracy and macro-averaged F1."""
        return ClassificationMetrics(len(self.labels))

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """The likeliest label of each text and its probability."""
        scores, numbers = self(hidden_BTD, batch).float().softmax(-1).max(-1)
        return [
            {"label": self.labels[number], "score": score}
            for number, score in zip(numbers.tolist(), scores.tolist(), strict=True)
        ]


class ClassificationMetrics(Metrics):
    """Loss in nats per text, accuracy, and F1 averaged over the labels."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.mean_loss = MeanMetric()
        self.accuracy = MulticlassAccuracy(num_labels, average="micro")
        self.f1 = MulticlassF1Score(num_labels, average="macro")

    def update(self, loss: Loss, batch: Batch) -> None:
        """Counts one batch."""
        assert loss.labels is not None
        assert loss.predicted is not None
        if loss.labels.numel():
            self.mean_loss.update(loss.mean.detach(), weight=loss.num_labels)
            self.accuracy.update(loss.predicted, loss.labels)
            self.f1.update(loss.predicted, loss.labels)

    def compute(self) -> dict[str, Tensor]:
        """The measures by name."""
        return {
            "loss": self.mean_loss.compute(),
            "accuracy": self.accuracy.compute(),
            "f1": self.f1.compute(),
        }

    def reset(self) -> None:
        """Starts anew."""
        for metric in (self.mean_loss, self.accuracy, self.f1):
            metric.reset()
