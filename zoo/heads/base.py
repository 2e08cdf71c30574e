"""What every head provides."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Batch = dict[str, Any]
"""What data hands to a module: tensors under the Hub's words, `input_ids` and `labels` among them."""


@dataclass(frozen=True)
class Loss:
    """A batch's loss: its sum over everything that carries a label, and how many do."""

    total: Tensor
    num_labels: Tensor | int

    @property
    def mean(self) -> Tensor:
        """What is minimised; a batch without a label gives zero."""
        return self.total / max(self.num_labels, 1) if isinstance(self.num_labels, int) else self._safe_mean()

    def _safe_mean(self) -> Tensor:
        assert isinstance(self.num_labels, Tensor)
        return self.total / self.num_labels.clamp(min=1)


class Metrics(nn.Module, ABC):
    """Running measures over the batches of an evaluation, summed over ranks by torchmetrics."""

    @abstractmethod
    def update(self, loss: Loss, batch: Batch) -> None:
        """Counts one batch."""

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """The measures by name."""

    @abstractmethod
    def reset(self) -> None:
        """Starts anew."""


class Head(nn.Module, ABC):
    """Hidden states to logits, loss and metrics. The loss owns the projection."""

    @abstractmethod
    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Logits of hidden states (batch, tokens, hidden_size)."""

    @abstractmethod
    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """The loss of a batch, from its hidden states and its labels."""

    @abstractmethod
    def metrics(self) -> Metrics:
        """Fresh measures for an evaluation."""

    def tie(self, backbone: nn.Module) -> None:
        """Shares weights with the backbone, where the spec says so. Called again after materialising."""

    @property
    def tied(self) -> frozenset[str]:
        """Names of parameters that belong to the backbone, and are not saved with the head."""
        return frozenset()
