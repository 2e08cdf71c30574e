"""The head of masked language models: what was there before it was hidden.

Devlin et al., 2018, section 3.1: https://arxiv.org/abs/1810.04805
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import SumMetric

from zoo.heads.base import Batch, Loss
from zoo.heads.language_model import LanguageModelHead, LanguageModelMetrics, labelled
from zoo.specs import BackboneSpec, HeadSpec, Shape
from zoo.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class MaskedLM(HeadSpec):
    """Predicts hidden tokens from all that stand around them."""

    shapes: ClassVar[tuple[Shape, ...]] = ("encoder",)
    task: ClassVar[str] = "fill-mask"

    def build(self, backbone: BackboneSpec) -> "MaskedLMHead":
        """The head for a backbone of these sizes."""
        return MaskedLMHead(backbone, "MaskedLM")


class MaskedLMHead(LanguageModelHead):
    """A projection onto the vocabulary, read at the hidden token itself."""

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Cross entropy of each hidden token; `labels` (batch, tokens) are -100 where nothing is hidden."""
        loss = super().loss(hidden_BTD, batch)
        if self.training:
            return loss
        hidden_ND, labels_N = labelled(hidden_BTD, batch["labels"])
        # In pieces, as the logits of all of them at once would be large.
        likeliest = [self(piece, {}).argmax(-1) for piece in torch.split(hidden_ND, 256)]
        return replace(loss, labels=labels_N, predicted=torch.cat([labels_N[:0], *likeliest]))

    def metrics(self) -> "MaskedLMMetrics":
        """Loss, perplexity and accuracy over the hidden tokens."""
        return MaskedLMMetrics()

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """Each text with its masks filled by the likeliest tokens, and these with their probabilities."""
        found = []
        for hidden_TD, ids, real in zip(hidden_BTD, batch["input_ids"], batch["attention_mask"], strict=True):
            places = (ids == tokenizer.special_id("mask_token")).nonzero().flatten()
            scores, likeliest = self(hidden_TD[places], {}).softmax(-1).max(-1)
            filled = ids.index_copy(0, places, likeliest)[real.bool()]
            tokens = [tokenizer.decode([token]) for token in likeliest.tolist()]
            found.append(
                {"text": tokenizer.decode(filled.tolist()), "tokens": tokens, "scores": scores.tolist()}
            )
        return found


class MaskedLMMetrics(LanguageModelMetrics):
    """Loss in nats per hidden token, perplexity, and the share of hidden tokens that are told right."""

    def __init__(self) -> None:
        super().__init__()
        self.right = SumMetric()

    def update(self, loss: Loss, batch: Batch) -> None:
        """Counts one batch."""
        super().update(loss, batch)
        assert loss.labels is not None
        assert loss.predicted is not None
        self.right.update((loss.predicted == loss.labels).sum())

    def compute(self) -> dict[str, Tensor]:
        """The measures by name."""
        accuracy = self.right.compute() / self.tokens.compute().clamp(min=1)
        return {**super().compute(), "accuracy": accuracy}

    def reset(self) -> None:
        """Starts anew."""
        super().reset()
        self.right.reset()
