"""YourPlugin: a head that tells one of several labels from the mean of a text's hidden states.

It works as it stands. To make it yours: change what `forward` makes of the hidden states, and with it `loss`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from zoo.errors import SpecError
from zoo.heads.base import Batch, Head, Loss
from zoo.heads.comparing import ComparingMetrics
from zoo.layers import IGNORED
from zoo.specs import BackboneSpec, HeadSpec
from zoo.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class YourPlugin(HeadSpec):
    """Tells one of several labels for a whole text."""

    labels: list[str] | None = None
    """Their names; None: those that the data has."""

    shapes = ("encoder", "decoder")
    task = "text-classification"  # the Hub's word, by which data knows whether its batches serve

    def build(self, backbone: BackboneSpec) -> "YourPluginHead":
        """The head for a backbone of these sizes."""
        if self.labels is None:
            raise SpecError(
                "the head knows no labels", at="labels", hint="give them, or data that names them"
            )
        return YourPluginHead(backbone.hidden_size, self.labels)

    def with_labels(self, labels: Sequence[str]) -> Self:
        """The same head with the data's labels, where it names none."""
        return replace(self, labels=list(labels)) if self.labels is None else self

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """The labels of config.json's `id2label`."""
        names = config.get("id2label") or {}
        return cls(labels=[names[number] for number in sorted(names, key=int)])

    def to_hub(self) -> dict[str, Any]:
        """config.json's `id2label`."""
        return {"id2label": {str(number): label for number, label in enumerate(self.labels or [])}}


class YourPluginHead(Head):
    """A projection of the mean hidden state onto the labels."""

    def __init__(self, hidden_size: int, labels: list[str]) -> None:
        super().__init__()
        self.labels = labels
        self.projection = nn.Linear(hidden_size, len(labels))

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Logits (batch, labels) of hidden states (batch, tokens, hidden_size)."""
        real = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()[..., None]
        mean = hidden.masked_fill(~real, 0).sum(1) / real.sum(1)
        logits: Tensor = self.projection(mean.to(hidden.dtype))
        return logits

    def loss(self, hidden: Tensor, batch: Batch) -> Loss:
        """Cross entropy of each text's label; `labels` (batch) by number, -100 is none."""
        labels, logits = batch["labels"], self(hidden, batch).float()
        told = labels != IGNORED
        total = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        return Loss(total, told.sum(), labels[told], logits.detach().argmax(-1)[told])

    def metrics(self) -> ComparingMetrics:
        """The mean loss, and the share that is told right."""
        return ComparingMetrics(accuracy=MulticlassAccuracy(len(self.labels), average="micro"))

    def predict(self, hidden: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """The likeliest label of each text and its probability."""
        scores, numbers = self(hidden, batch).float().softmax(-1).max(-1)
        pairs = zip(numbers.tolist(), scores.tolist(), strict=True)
        return [{"label": self.labels[number], "score": score} for number, score in pairs]
