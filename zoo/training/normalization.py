"""One loss for all labels of an optimizer step, however they are spread over batches and processes.

A mean of means weighs a label more where its batch has few: https://unsloth.ai/blog/gradient
"""

from collections.abc import Iterable

import lightning as L
import torch
from torch import Tensor, nn

from zoo.heads.base import Loss


class LabelMean:
    """Makes the gradients of a step those of the mean over all its labels.

    How many labels a step has is known when its last batch is read. Until then each batch is divided by the
    labels of the first; before the step the gradients are put right.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._labels: Tensor | None = None
        self._batches = 0

    def loss(self, loss: Loss, trainer: L.Trainer) -> Tensor:
        """What is minimised: one batch's share of the step's loss."""
        counted = torch.as_tensor(loss.num_labels, dtype=torch.float32, device=loss.total.device)
        if trainer.world_size > 1:  # gradients are averaged over processes, and so are labels
            counted = torch.as_tensor(trainer.strategy.reduce(counted, reduce_op="mean"))
        self._first = counted.where(counted > 0, 1.0) if self._first is None else self._first
        self._labels = counted if self._labels is None else self._labels + counted
        self._batches += 1
        return loss.minimised / self._first.to(loss.total.dtype)

    @torch.no_grad()
    def finish(self, parameters: Iterable[nn.Parameter], accumulated: int) -> None:
        """Puts the gradients of a step right.

        Args:
            parameters: Their gradients are sums over the step's batches, each divided by `accumulated`.
            accumulated: Batches that the Trainer accumulates.
        """
        first, labels, batches = self._first, self._labels, self._batches
        self._first, self._labels, self._batches = None, None, 0
        if first is None or labels is None or (batches == 1 and accumulated == 1):
            return
        factor = first * accumulated / labels.where(labels > 0, 1.0)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor.to(parameter.grad.dtype))
