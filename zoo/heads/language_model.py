"""What the heads that predict tokens share: a projection onto the vocabulary, its loss, its measures."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchmetrics import SumMetric

from zoo.heads.base import Batch, Head, Loss, Metrics
from zoo.layers import IGNORED, Linear, capped, linear_cross_entropy
from zoo.specs import BackboneSpec


class Shift(nn.Module):
    """Numbers that are added to logits, (1, vocab_size); they are saved and not trained."""

    value: Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.empty(1, vocab_size))

    def reset_parameters(self) -> None:
        """Starts at zero."""
        nn.init.zeros_(self.value)


class LanguageModelHead(Head):
    """A projection onto the vocabulary, whose weight may be the embedding's.

    Args:
        spec: Of the backbone.
        name: The head's own, under which the family says how it stands on the Hub.
        label_smoothing: Share of a label's weight that is spread over all tokens in training.
    """

    stays = True

    def __init__(self, spec: BackboneSpec, name: str, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        hub_head = spec.hub_head(name)
        self.transform = hub_head.transform(spec) if hub_head.transform else nn.Identity()
        width = spec.hidden_size if hub_head.width is None else hub_head.width
        num_words = spec.vocab_size if hub_head.num_words is None else hub_head.num_words
        self.projection = Linear(width, num_words, bias=hub_head.bias)
        self.shift = Shift(num_words) if hub_head.shifts else None
        self.softcap = hub_head.softcap
        self.tied_with = hub_head.tied if spec.tie_word_embeddings else None

    @property
    def tied(self) -> Mapping[str, str]:
        """The projection's weight, where the spec says `tie_word_embeddings`."""
        return {} if self.tied_with is None else {"projection.weight": self.tied_with}

    def forward(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """Logits (…, vocab_size) of hidden states (…, hidden_size)."""
        logits: Tensor = self.projection(self.transform(hidden_BTD))
        logits = logits if self.shift is None else logits + self.shift.value
        return logits if self.softcap is None else capped(logits, self.softcap)

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Cross entropy of each label at its own token.

        Args:
            hidden_BTD: Hidden states.
            batch: `labels` (batch, tokens); -100 is none.
        """
        hidden_ND, labels_N = labelled(hidden_BTD, batch["labels"])
        bias_V: Tensor | None = self.projection.bias
        if self.shift is not None:
            bias_V = self.shift.value[0] if bias_V is None else bias_V + self.shift.value[0]
        smoothing = self.label_smoothing if self.training else 0.0
        total = linear_cross_entropy(
            self.transform(hidden_ND), self.projection.weight, labels_N, bias_V, self.softcap, smoothing
        )
        return Loss(total, labels_N.numel())

    def metrics(self) -> "LanguageModelMetrics":
        """Loss, perplexity and, where the batches say how long their text is, bits per byte."""
        return LanguageModelMetrics()


def labelled(hidden_BTD: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states and labels of the tokens that carry one, (rows, hidden_size) and (rows)."""
    hidden_ND, labels_N = hidden_BTD.flatten(0, 1), labels_BT.flatten()
    is_labelled = labels_N != IGNORED
    return (hidden_ND, labels_N) if is_labelled.all() else (hidden_ND[is_labelled], labels_N[is_labelled])


class LanguageModelMetrics(Metrics):
    """Loss in nats per token, perplexity, and bits per byte, which compares across tokenizers."""

    def __init__(self) -> None:
        super().__init__()
        self.nats, self.tokens, self.bytes = SumMetric(), SumMetric(), SumMetric()

    def update(self, loss: Loss, batch: Batch) -> None:
        """Counts one batch; `num_bytes` (batch) is the length of each row's predicted text."""
        self.nats.update(loss.total.detach())
        self.tokens.update(loss.num_labels)
        self.bytes.update(batch.get("num_bytes", 0))

    def compute(self) -> dict[str, Tensor]:
        """The measures by name."""
        nats, num_bytes = self.nats.compute(), self.bytes.compute()
        mean = nats / self.tokens.compute().clamp(min=1)
        measures = {"loss": mean, "perplexity": torch.exp(mean)}
        if num_bytes > 0:
            measures["bits_per_byte"] = nats / math.log(2) / num_bytes
        return measures

    def reset(self) -> None:
        """Starts anew."""
        for metric in (self.nats, self.tokens, self.bytes):
            metric.reset()
