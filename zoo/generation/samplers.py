"""From logits to the next token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation.rows import Row


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Greedy at temperature 0; else draws from the softened and cut distribution.

    Holtzman et al., 2019 (top-p): https://arxiv.org/abs/1904.09751
    """

    temperature: float = 0.0
    """Divides the logits; 0 takes the likeliest token."""
    top_k: int | None = None
    """Draws among so many of the likeliest tokens."""
    top_p: float | None = None
    """Draws among the fewest tokens that hold this much probability."""

    def __post_init__(self) -> None:
        if not self.temperature >= 0:  # nor NaN
            raise GenerationError(f"`temperature` must not be negative, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise GenerationError(f"`top_k` must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise GenerationError(f"`top_p` must lie in (0, 1], got {self.top_p}")

    def __call__(self, logits_BV: Tensor, rows: Sequence[Row]) -> Tensor:
        """The next token (batch) of each row, which draws a number of its own and nothing else."""
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        drawn_B1 = torch.tensor([[row.draw()] for row in rows], dtype=torch.float64).to(logits_BV.device)
        reached_BV = self.probabilities(logits_BV).double().cumsum(-1)
        # Above zero and at most all, so what is found can be drawn.
        return torch.searchsorted(reached_BV, drawn_B1 * reached_BV[:, -1:])[:, 0]

    def probabilities(self, logits_BV: Tensor) -> Tensor:
        """What is drawn from, float32 (batch, vocab_size); the temperature is above 0."""
        # From the likeliest down, so that no temperature makes infinity or 0 / 0.
        below_BV = logits_BV.float() - logits_BV.float().amax(-1, keepdim=True)
        return self.cut(below_BV / max(self.temperature, 1e-30)).softmax(-1)

    def cut(self, logits_BV: Tensor) -> Tensor:
        """Logits with what top_k and top_p exclude at minus infinity."""
        if self.top_k is not None and self.top_k < logits_BV.shape[-1]:
            kth_B1 = logits_BV.topk(self.top_k, -1).values[:, -1:]
            logits_BV = logits_BV.masked_fill(logits_BV < kth_B1, -torch.inf)
        if self.top_p is not None and self.top_p < 1:
            sorted_BV, order_BV = logits_BV.sort(-1, descending=True)
            before_BV = sorted_BV.softmax(-1).cumsum(-1) - sorted_BV.softmax(-1)
            excluded_BV = (before_BV >= self.top_p).scatter(-1, order_BV, before_BV >= self.top_p)
            logits_BV = logits_BV.masked_fill(excluded_BV, -torch.inf)
        return logits_BV
