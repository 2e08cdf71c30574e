"""From logits to the next token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation.rows import Row

_MOSTLY_ENOUGH = 1024
"""Tokens among which top-p's last one is looked for, before all are sorted, which takes far longer."""


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Greedy at temperature 0; else draws from the softened and cut distribution.

    The cuts follow each other as they stand here, each on what the one before left, as in transformers.

    Fan et al., 2018 (top-k): https://arxiv.org/abs/1805.04833
    Holtzman et al., 2019 (top-p): https://arxiv.org/abs/1904.09751
    Nguyen et al., 2024 (min-p): https://arxiv.org/abs/2407.01082
    """

    temperature: float = 0.0
    """Divides the logits; 0 takes the likeliest token."""
    top_k: int | None = None
    """Draws among so many of the likeliest tokens."""
    top_p: float | None = None
    """Draws among the fewest tokens that hold this much probability."""
    min_p: float | None = None
    """Draws among the tokens that have this share of the likeliest one's probability."""

    def __post_init__(self) -> None:
        if not self.temperature >= 0:  # nor NaN
            raise GenerationError(f"`temperature` must not be negative, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise GenerationError(f"`top_k` must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise GenerationError(f"`top_p` must lie in (0, 1], got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise GenerationError(f"`min_p` must lie in [0, 1], got {self.min_p}")

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
        """Logits with what is excluded at minus infinity."""
        if self.top_k is not None and self.top_k < logits_BV.shape[-1]:
            kth_B1 = logits_BV.topk(self.top_k, -1).values[:, -1:]
            logits_BV = logits_BV.masked_fill(logits_BV < kth_B1, -torch.inf)
        if self.top_p is not None and self.top_p < 1:
            logits_BV = logits_BV.masked_fill(~_nucleus(logits_BV, self.top_p), -torch.inf)
        if self.min_p:
            probabilities_BV = logits_BV.softmax(-1)
            least_B1 = self.min_p * probabilities_BV.amax(-1, keepdim=True)
            logits_BV = logits_BV.masked_fill(probabilities_BV < least_B1, -torch.inf)
        return logits_BV


def _nucleus(logits_BV: Tensor, top_p: float) -> Tensor:
    """Which are the fewest tokens that hold so much probability, (batch, vocab_size)."""
    total_B1 = logits_BV.logsumexp(-1, keepdim=True)
    sorted_BK = logits_BV.topk(min(_MOSTLY_ENOUGH, logits_BV.shape[-1]), -1).values
    if bool(((sorted_BK - total_B1).exp().sum(-1) < top_p).any()):
        sorted_BK = logits_BV.sort(-1, descending=True).values
    held_BK = (sorted_BK - total_B1).exp()
    num_kept_B1 = (held_BK.cumsum(-1) - held_BK < top_p).sum(-1, keepdim=True)
    last_B1 = sorted_BK.gather(-1, num_kept_B1 - 1)
    above_BV, equal_BV = logits_BV > last_B1, logits_BV == last_B1
    num_equal_B1 = num_kept_B1 - above_BV.sum(-1, keepdim=True)
    return above_BV | (equal_BV & (equal_BV.cumsum(-1) <= num_equal_B1))
