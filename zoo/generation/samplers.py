"""From logits to the next token."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo.errors import GenerationError


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
    seed: int | None = None
    """Makes draws repeatable, row by row, whatever else is in the batch."""
    _generators: list[torch.Generator] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.temperature >= 0:  # nor NaN
            raise GenerationError(f"`temperature` must not be negative, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise GenerationError(f"`top_k` must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise GenerationError(f"`top_p` must lie in (0, 1], got {self.top_p}")

    def __call__(self, logits_BV: Tensor) -> Tensor:
        """The next token of each row, (batch)."""
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        # From the likeliest down, so that no temperature makes infinity or 0 / 0.
        below_BV = logits_BV.float() - logits_BV.float().amax(-1, keepdim=True)
        probabilities_BV = self.cut(below_BV / max(self.temperature, 1e-30)).softmax(-1)
        while len(self._generators) < len(logits_BV):
            generator = torch.Generator(device=logits_BV.device)
            generator.manual_seed(self.seed) if self.seed is not None else generator.seed()
            self._generators.append(generator)
        drawn = [
            torch.multinomial(row_V, 1, generator=generator)
            for row_V, generator in zip(probabilities_BV, self._generators, strict=False)
        ]
        return torch.cat(drawn)

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
