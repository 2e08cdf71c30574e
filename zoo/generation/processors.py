"""What changes logits before a token is chosen: rows and logits (batch, vocab_size) in, logits out.

Each treats a row by itself, remembers nothing and may change the logits in place. Equal to the processors of
transformers of the same names, where it has them.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation.rows import Row


@dataclass(frozen=True)
class RepetitionPenalty:
    """Makes tokens that a row has, its prompt's among them, less likely; below 1, likelier.

    Keskar et al., 2019 (CTRL): https://arxiv.org/abs/1909.05858
    """

    penalty: float

    def __post_init__(self) -> None:
        if not self.penalty > 0:
            raise GenerationError(f"`repetition_penalty` must be above 0, got {self.penalty}")

    def __call__(self, rows: Sequence[Row], logits_BV: Tensor) -> Tensor:
        """Divides what is positive, multiplies what is not."""
        for row, logits_V in zip(rows, logits_BV, strict=True):
            seen = torch.tensor(list(set(row.ids)), device=logits_V.device)
            found = logits_V[seen]
            logits_V[seen] = torch.where(found < 0, found * self.penalty, found / self.penalty)
        return logits_BV


@dataclass(frozen=True)
class NoRepeatNGram:
    """No n tokens in a row come twice, the prompt's among them.

    Paulus et al., 2017: https://arxiv.org/abs/1705.04304
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise GenerationError(f"`no_repeat_ngram_size` must be at least 1, got {self.size}")

    def __call__(self, rows: Sequence[Row], logits_BV: Tensor) -> Tensor:
        """Excludes every token that would complete n that were there."""
        for row, logits_V in zip(rows, logits_BV, strict=True):
            exclude(logits_V, self._followed(row.ids))
        return logits_BV

    def _followed(self, ids: list[int]) -> set[int]:
        """What followed the last n - 1 tokens, wherever they were before."""
        length = self.size - 1
        if length == 0:
            return set(ids)
        if len(ids) <= length:
            return set()
        last, start = ids[-length:], 0
        found: set[int] = set()
        while True:
            try:
                start = ids.index(last[0], start, len(ids) - length)
            except ValueError:
                return found
            if ids[start : start + length] == last:
                found.add(ids[start + length])
            start += 1


@dataclass(frozen=True)
class NoBadWords:
    """Some runs of tokens are never completed."""

    words: Sequence[Sequence[int]]

    def __call__(self, rows: Sequence[Row], logits_BV: Tensor) -> Tensor:
        """Excludes the last token of each word whose others a row ends with."""
        for row, logits_V in zip(rows, logits_BV, strict=True):
            exclude(logits_V, {word[-1] for word in self.words if _ends_with(row.ids, word[:-1])})
        return logits_BV


@dataclass(frozen=True)
class Suppress:
    """Some tokens are never written, or not as the first one."""

    tokens: Collection[int]
    at: int | None = None
    """Where in the new text, from 0; None: nowhere."""

    def __call__(self, rows: Sequence[Row], logits_BV: Tensor) -> Tensor:
        """Excludes them."""
        for row, logits_V in zip(rows, logits_BV, strict=True):
            if self.at is None or self.at == row.num_new:
                exclude(logits_V, self.tokens)
        return logits_BV


@dataclass(frozen=True)
class MinLength:
    """A row does not end before it is so long."""

    length: int
    eos_token_ids: Collection[int]
    counts_given: bool = False
    """Whether what the decoder started from is counted, as in `min_length`."""

    def __call__(self, rows: Sequence[Row], logits_BV: Tensor) -> Tensor:
        """Excludes what would end it."""
        for row, logits_V in zip(rows, logits_BV, strict=True):
            if (len(row.ids) if self.counts_given else row.num_new) < self.length:
                exclude(logits_V, self.eos_token_ids)
        return logits_BV


@dataclass(frozen=True)
class ForcedStart:
    """What is written after the one token that a decoder starts from; mBART's language, for one."""

    token: int

    def __call__(self, rows: Sequence[Row], logits_BV: Tensor) -> Tensor:
        """Excludes all others at the second place."""
        for row, logits_V in zip(rows, logits_BV, strict=True):
            if len(row.ids) == 1:
                force(logits_V, [self.token])
        return logits_BV


@dataclass(frozen=True)
class ForcedEnd:
    """The last of all new tokens that may be written ends the row."""

    tokens: Sequence[int]
    max_new_tokens: int

    def __call__(self, rows: Sequence[Row], logits_BV: Tensor) -> Tensor:
        """Excludes all others at the last place."""
        for row, logits_V in zip(rows, logits_BV, strict=True):
            if row.num_new == self.max_new_tokens - 1:
                force(logits_V, self.tokens)
        return logits_BV


def renormalize(rows: Sequence[Row], logits_BV: Tensor) -> Tensor:
    """Makes what is left a distribution again, of which beams add up the logarithms."""
    return logits_BV.log_softmax(-1)


def _ends_with(ids: list[int], end: Sequence[int]) -> bool:
    return not end or ids[-len(end) :] == list(end)


def exclude(logits_V: Tensor, tokens: Iterable[int]) -> None:
    """Leaves some tokens no probability."""
    if listed := list(tokens):
        logits_V[torch.tensor(listed, device=logits_V.device)] = -torch.inf


def keep(logits_V: Tensor, tokens: Iterable[int]) -> None:
    """Leaves the tokens that are not among some no probability."""
    kept = torch.tensor(list(tokens), device=logits_V.device)
    values = logits_V[kept]
    logits_V.fill_(-torch.inf)
    logits_V[kept] = values


def force(logits_V: Tensor, tokens: Iterable[int]) -> None:
    """Leaves the tokens that are not among some no probability, and makes these equally likely."""
    logits_V.fill_(-torch.inf)
    logits_V[torch.tensor(list(tokens), device=logits_V.device)] = 0.0
