"""The language model's head: what comes next.

Radford et al., 2018: https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import SumMetric

from zoo.heads.base import Batch, Head, Loss, Metrics
from zoo.layers import IGNORED, linear_cross_entropy
from zoo.specs import BackboneSpec, HeadSpec, Shape


@dataclass(frozen=True, kw_only=True)
class CausalLM(HeadSpec):
    """Predicts each token from those before it."""

    shapes: ClassVar[tuple[Shape, ...]] = ("decoder",)

    def build(self, backbone: BackboneSpec) -> "CausalLMHead":
        """The head for a backbone of these sizes."""
        return CausalLMHead(backbone)


class CausalLMHead(Head):
    """A projection onto the vocabulary, whose weight may be the embedding's."""

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        bias = spec.hub_head("CausalLM").bias
        self.projection = nn.Linear(spec.hidden_size, spec.vocab_size, bias=bias)
        self.tie_word_embeddings = spec.tie_word_embeddings

    def tie(self, backbone: nn.Module) -> None:
        """Shares the weight of `backbone.embedding`, where the spec says `tie_word_embeddings`."""
        if self.tie_word_embeddings:
            self.projection.weight = backbone.get_submodule("embedding").get_parameter("weight")

    @property
    def tied(self) -> frozenset[str]:
        """The projection's weight, where it is the embedding's."""
        return frozenset({"projection.weight"} if self.tie_word_embeddings else ())

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Logits of the token after each, (batch, tokens, vocab_size)."""
        logits: Tensor = self.projection(hidden_BTD)
        return logits

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Cross entropy of each label given the tokens before it.

        Args:
            hidden_BTD: Hidden states.
            batch: `labels` (batch, tokens) stand beside their own token, as on the Hub; -100 is none.
        """
        labels_N = batch["labels"][:, 1:].flatten()
        hidden_ND = hidden_BTD[:, :-1].flatten(0, 1)
        labelled = labels_N != IGNORED
        if not labelled.all():
            hidden_ND, labels_N = hidden_ND[labelled], labels_N[labelled]
        total = linear_cross_entropy(hidden_ND, self.projection.weight, labels_N, self.projection.bias)
        return Loss(total, labels_N.numel())

    def metrics(self) -> "LanguageModelMetrics":
        """Loss, perplexity and, where the batches say how long their text is, bits per byte."""
        return LanguageModelMetrics()


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
