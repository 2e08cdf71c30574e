"""Speculative decoding: several tokens are guessed, and the model reads all guesses in the time of one.

Leviathan et al., 2022: https://arxiv.org/abs/2211.17192. What is guessed is one text, not a distribution, so
that a guess is right where the model's own choice is the same: greedily, and drawn with a seed, what is
written is what would be written without guesses, token for token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from zoo.errors import GenerationError
from zoo.generation.batches import Batch, Model
from zoo.generation.rows import Row

if TYPE_CHECKING:
    from zoo.generation.decoding import Decoding, Steps

Guess = Callable[[Row, int], Sequence[int]]
"""A row as far as it is written, and a number, to at most so many tokens that may come next."""


class Speculation(Protocol):
    """A way to guess."""

    @property
    def num_tokens(self) -> int:
        """Guesses at once."""

    def begin(self, row: Row, max_tokens: int) -> Guess:
        """What guesses how one row goes on, which will have at most so many tokens."""


def _require_tokens(num_tokens: int) -> None:
    if num_tokens < 1:
        raise GenerationError(f"`num_tokens` of guesses must be at least 1, got {num_tokens}")


@dataclass(frozen=True)
class PromptLookup:
    """Guesses that what followed the last few tokens the time before will follow them again.

    Saxena, 2023: https://github.com/apoorvumang/prompt-lookup-decoding
    """

    num_tokens: int = 10
    """Guesses at once."""
    longest_match: int = 3
    """As many of the last tokens are looked for first, then fewer."""

    def __post_init__(self) -> None:
        _require_tokens(self.num_tokens)
        if self.longest_match < 1:
            raise GenerationError(f"`longest_match` must be at least 1, got {self.longest_match}")

    def begin(self, row: Row, max_tokens: int) -> Guess:
        """What guesses how one row goes on."""
        # What an encoder read is where an answer's words stand.
        read = [] if row.ids == list(row.prompt) else list(row.prompt)
        return lambda row, number: self._following([*read, *row.ids], number)

    def _following(self, ids: list[int], number: int) -> list[int]:
        for length in range(min(self.longest_match, len(ids) - 1), 0, -1):
            last = ids[-length:]
            for start in range(len(ids) - length - 1, -1, -1):
                if ids[start : start + length] == last:
                    return ids[start + length : start + length + number]
        return []


@dataclass(frozen=True)
class Draft:
    """Guesses what a smaller model of the same vocabulary would write."""

    model: Model
    num_tokens: int = 5
    """Guesses at once."""

    def __post_init__(self) -> None:
        _require_tokens(self.num_tokens)

    def begin(self, row: Row, max_tokens: int) -> Guess:
        """What guesses how one row goes on."""
        batch = Batch(self.model, max_tokens + self.num_tokens, spare=self.num_tokens)
        read: list[int] = []

        def guess(row: Row, number: int) -> list[int]:
            if not read:
                logits_BV = batch.begin([Row(row.index, row.prompt, row.ids)])
            else:
                while row.ids[: len(read)] != read:
                    read.pop()
                batch.truncate(len(read))
                logits_BV = batch.read([row.ids[len(read) :]])[:, 0]
            read[:] = row.ids
            guesses: list[int] = []
            while len(guesses) < number:
                guesses.append(int(logits_BV.argmax()))
                if len(guesses) < number:
                    logits_BV = batch.read([guesses[-1:]])[:, 0]
                    read.append(guesses[-1])
            return guesses

        return guess


@torch.inference_mode()
def speculate(model: Model, rows: Sequence[Row], decoding: "Decoding", speculation: Speculation) -> "Steps":
    """Continues each row, one after the other, as `decode` would.

    Args:
        model: What writes.
        rows: What to continue, none empty.
        decoding: When to stop, and how to choose.
        speculation: What guesses.

    Yields:
        The new tokens of a row: those that were guessed right, and the one after them.
    """
    for row in rows:
        max_tokens = len(row.ids) + decoding.max_new_tokens
        batch = Batch(model, max_tokens, spare=speculation.num_tokens)
        guess = speculation.begin(row, max_tokens)
        guesses: list[int] = []
        logits_BTV = batch.begin([row])[:, None]
        while True:
            length = batch.length - len(guesses)
            written = _confirm(row, guesses, logits_BTV, decoding)
            yield {row.index: written}
            if decoding.ends(row):
                break
            batch.truncate(length + len(written) - 1)
            most = min(speculation.num_tokens, decoding.max_new_tokens - row.num_new - 1)
            guesses = list(guess(row, most)) if most else []
            logits_BTV = batch.read([[row.ids[-1], *guesses]], 1 + len(guesses))


def _confirm(row: Row, guesses: Sequence[int], logits_BTV: torch.Tensor, decoding: "Decoding") -> list[int]:
    """Writes the model's own choices, as far as they were guessed and one further."""
    written: list[int] = []
    for place in range(len(guesses) + 1):
        written += decoding.extend([row], logits_BTV[:, place])[row.index]
        if place == len(guesses) or written[-1] != guesses[place] or decoding.ends(row):
            break
    return written
