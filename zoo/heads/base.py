"""What every head provides."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zoo.layers import IGNORED
from zoo.tokenizer import Tokenizer

Batch = dict[str, Any]
"""What data hands to a module: tensors under the Hub's words, `input_ids` and `labels` among them."""


def unlabelled(batch: Batch) -> Batch:
    """The same batch with nothing to be learnt or measured."""
    nothing = {"labels": IGNORED, "num_bytes": 0}
    return {
        name: torch.full_like(value, nothing[name]) if name in nothing else value
        for name, value in batch.items()
    }


def padded_rows(vocab_size: int, number: int = 3) -> Batch:
    """Texts of random ids, (number, 12), all but the first padded on the right."""
    ids = torch.randint(3, vocab_size, (number, 12), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([12 - 2 * (row % 4) for row in range(number)])
    real = (torch.arange(12) < lengths[:, None]).long()
    return {"input_ids": ids.masked_fill(real == 0, 0), "attention_mask": real}


@dataclass(frozen=True)
class Loss:
    """A batch's loss: its sum over everything that carries a label, and how many do."""

    total: Tensor
    num_labels: Tensor | int
    labels: Tensor | None = None
    """Where a metric compares: what carried a label."""
    predicted: Tensor | None = None
    """Beside `labels`, what the head holds likeliest, as its metrics take it."""
    added: Tensor | None = None
    """What the backbone adds to the mean; measures know nothing of it."""

    @property
    def mean(self) -> Tensor:
        """What is minimised; a batch without a label gives zero."""
        if isinstance(self.num_labels, int):
            return self.minimised / max(self.num_labels, 1)
        return self.minimised / self.num_labels.clamp(min=1)

    @property
    def minimised(self) -> Tensor:
        """The sum whose mean is minimised: what the backbone adds counts once for each label."""
        return self.total if self.added is None else self.total + self.added * self.num_labels


@dataclass(frozen=True)
class Look:
    """What a head makes of the rows of a batch that carry a label, for people to look at."""

    rows: Tensor
    """Their numbers in the batch."""
    losses: Tensor
    """What each loses, (rows)."""
    said: list[str]
    """What the head says of each, in words."""
    right: list[str]
    """What is right."""
    labels: Tensor | None = None
    """Where the head chooses among answers, the number of each that is right, (answers)."""
    predicted: Tensor | None = None
    """The number of each that is told."""
    confidence: Tensor | None = None
    """How sure the head is of it, from 0 to 1."""
    names: Sequence[str] | None = None
    """Of the answers by number, where they are the same for all rows."""


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
    """Hidden states to logits, loss, metrics and predictions. The loss owns the projection."""

    generates: ClassVar[bool] = False
    """Whether its predictions are written token by token."""
    unpublished: ClassVar[tuple[str, ...]] = ()
    """Parts that are there for training alone: files in the Hub's format do not hold them."""

    stays: ClassVar[bool] = False
    """Whether it stays as it is where the backbone does, under an adapter."""

    def prepare(self, batch: Batch) -> Batch:
        """What backbone and loss read of a batch with labels; by default the batch."""
        return batch

    @abstractmethod
    def forward(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """Logits of a batch, from its hidden states (batch, tokens, hidden_size)."""

    @abstractmethod
    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """The loss of a batch, from its hidden states and its labels."""

    def loss_from(self, hidden_states: Callable[[Batch], Tensor], batch: Batch) -> Loss:
        """The loss of a batch in training, whose hidden states may be asked for a few rows at a time."""
        return self.loss(hidden_states(batch), batch)

    @abstractmethod
    def metrics(self) -> Metrics:
        """Fresh measures for an evaluation."""

    def look(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> Look | None:
        """What can be looked at of a batch with labels; None: nothing row by row."""
        return None

    def encode(self, texts: Sequence[Any], tokenizer: Tokenizer, max_length: int) -> Batch:
        """What the model reads to predict something of each of these texts or pairs of texts."""
        return dict(tokenizer.batch(texts, max_length=max_length))

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """What the head says of each text, as plain values; one that generates says nothing here."""
        raise NotImplementedError

    def tie(self, backbone: nn.Module) -> None:
        """Shares weights with the backbone, where the spec says so. Called again after materialising."""
        for mine, theirs in self.tied.items():
            owner, _, name = mine.rpartition(".")
            setattr(self.get_submodule(owner), name, backbone.get_parameter(theirs))

    @property
    def tied(self) -> Mapping[str, str]:
        """Parameters that belong to the backbone, by their names here and there."""
        return {}

    @property
    def not_in_files(self) -> frozenset[str]:
        """Names of tensors that files in the Hub's format leave out: the backbone's, and the unpublished."""
        parts = tuple(f"{part}." for part in self.unpublished)
        return frozenset(self.tied) | {name for name in self.state_dict() if name.startswith(parts)}
