"""Rows that are written together: what a model remembers of them, and who stands where."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zoo.generation.caches import Cache, FixedCache, Source
from zoo.generation.rows import Row
from zoo.layers.masks import Mask


@dataclass(frozen=True)
class Model:
    """What writes, as generation sees it."""

    hidden_states: Callable[[Tensor, Mask, Cache | FixedCache], Tensor]
    """New ids (batch, tokens), what is real of all so far, and what came before, to hidden states
    (batch, tokens, hidden_size); the cache then remembers the new ones, too."""
    logits: Callable[[Tensor], Tensor]
    """Hidden states (…, hidden_size) to logits (…, vocab_size)."""
    device: torch.device
    """Where the weights are."""
    read: Callable[[Sequence[Sequence[int]]], Source] | None = None
    """What an encoder makes of prompts; None: the decoder continues them."""
    start: Sequence[int] | None = None
    """What the decoder starts from, where it does not continue the prompt."""
    fixed_step: Callable[[Tensor, FixedCache], Tensor] | None = None
    """New ids (batch, 1) to hidden states, with as many columns at each step; None: columns grow."""


def fixed_step(model: Model) -> Callable[[Tensor, FixedCache], Tensor]:
    """A model's step of one token, all of whose steps have the same shapes."""
    return lambda ids_B1, cache: model.hidden_states(ids_B1, Mask(cache.real_BS), cache)


def compiled(model: Model) -> Model:
    """The same model, whose steps of one token are compiled; reading prompts is not, as lengths differ.

    On a GPU, a decoder's step is one CUDA graph over columns whose number does not change. The first steps
    take long, by a time that grows with the number of layers. To be kept: each call compiles anew.
    """
    if model.device.type == "cuda" and model.read is None:
        return replace(model, fixed_step=torch.compile(fixed_step(model), mode="reduce-overhead"))
    step = torch.compile(lambda ids, mask, cache: model.hidden_states(ids, mask, cache))

    def hidden_states(ids_BT: Tensor, mask: Mask, cache: Cache | FixedCache) -> Tensor:
        found: Tensor = (step if ids_BT.shape[1] == 1 else model.hidden_states)(ids_BT, mask, cache)
        return found

    return replace(model, hidden_states=hidden_states)


class Batch:
    """Rows that end at the same column of one cache.

    Args:
        model: What writes them.
        max_tokens: Columns at most: the longest row with all that will be written.
        spare: How many of the newest tokens may be taken back.
    """

    def __init__(self, model: Model, max_tokens: int, spare: int = 0) -> None:
        if model.fixed_step is not None:  # a graph for each number of columns: few
            max_tokens = max(256, 1 << (max_tokens - 1).bit_length())
        self.model, self.max_tokens = model, max_tokens
        self.rows: list[Row] = []
        self._cache = Cache(max_tokens, spare)
        self._fixed: FixedCache | None = None
        self._starts: list[int] = []
        """The column of each row's first token."""
        self._num_sharing = 1
        """Rows after each other that are written about one text."""

    @property
    def length(self) -> int:
        """Columns that are taken."""
        return self._cache.length

    @torch.inference_mode()
    def begin(self, rows: Sequence[Row]) -> Tensor:
        """Reads the first rows; returns the logits (batch, vocab_size) of what follows each."""
        assert not self.rows
        self.rows = list(rows)
        longest = max(len(row.ids) for row in rows)
        self._starts = [longest - len(row.ids) for row in rows]
        if self.model.read is not None:
            self._cache.source = self.model.read([row.prompt for row in rows])
        ids = [[0] * start + row.ids for row, start in zip(rows, self._starts, strict=True)]
        return self.read(ids)[:, 0]

    @torch.inference_mode()
    def read(self, ids: Sequence[Sequence[int]], num_last: int = 1) -> Tensor:
        """Reads as many new ids of each row; returns the logits (batch, num_last, vocab_size) of the last."""
        ids_BT = torch.tensor(ids, device=self.model.device)
        mask = self._mask(self._cache.length + ids_BT.shape[1])
        hidden_BTD = self.model.hidden_states(ids_BT, mask, self._cache)
        return self.model.logits(hidden_BTD[:, -num_last:])

    @torch.inference_mode()
    def step(self) -> Tensor:
        """Reads each row's newest token; returns the logits (batch, vocab_size) of what follows it."""
        newest = [row.ids[-1:] for row in self.rows]
        if self.model.fixed_step is None:
            return self.read(newest)[:, 0]
        if self._fixed is None:
            self._fixed = self._cache.fixed()
        if self._fixed is None:  # a window's columns move
            return self.read(newest)[:, 0]
        starts_B1 = torch.tensor(self._starts, device=self.model.device)[:, None]
        self._fixed.place(self.length, starts_B1)
        ids_B1 = torch.tensor(newest, device=self.model.device)
        hidden_B1D = self.model.fixed_step(ids_B1, self._fixed)
        self._cache.skip(1)
        return self.model.logits(hidden_B1D)[:, 0]

    def _mask(self, num_columns: int) -> Mask:
        if not any(self._starts):
            return Mask()
        starts_B1 = torch.tensor(self._starts, device=self.model.device)[:, None]
        return Mask(torch.arange(num_columns, device=self.model.device) >= starts_B1)

    @torch.inference_mode()
    def select(self, places: Sequence[int], since: int = 0, num_sharing: int = 1) -> None:
        """Keeps the rows at these places, in this order.

        Args:
            places: Where they stood; one may be named several times.
            since: The number of first tokens that rows which trade places share: see `Cache.select`.
            num_sharing: So many rows after each other are written about one text, as beams are: what an
                encoder made of it is there once.
        """
        texts = [place // self._num_sharing for place in places[::num_sharing]]
        self._starts = [self._starts[place] for place in places]
        self.rows = [self.rows[place] for place in places]
        self._num_sharing = num_sharing
        if since == 0:  # other memory
            self._fixed = None
        self._cache.select(torch.tensor(places, device=self.model.device), since)
        self._cache.select_texts(torch.tensor(texts, device=self.model.device))

    @torch.inference_mode()
    def replace(self, places: Sequence[int], rows: Sequence[Row]) -> Tensor:
        """Reads new rows in place of others; returns the logits of what follows each new one."""
        other = Batch(self.model, max(len(row.ids) for row in rows))
        logits_NV = other.begin(rows)
        self.make_room(other.length)
        self._cache.put(torch.tensor(places, device=self.model.device), other._cache)
        for place, row, start in zip(places, rows, other._starts, strict=True):
            self.rows[place] = row
            self._starts[place] = self.length - other.length + start
        return logits_NV

    @torch.inference_mode()
    def make_room(self, num_columns: int) -> None:
        """Has at least so many columns; more are put before the first."""
        if num_columns > self.length:
            self._move(num_columns - self.length)

    @torch.inference_mode()
    def trim(self) -> None:
        """Forgets the columns before all rows."""
        if first := min(self._starts):
            self._move(-first)

    def _move(self, num_columns: int) -> None:
        self._cache.move(num_columns)
        self._starts = [max(0, start + num_columns) for start in self._starts]

    def release(self, places: Sequence[int]) -> None:
        """Tells that the rows at these places have ended, and stay only until others come."""
        for place in places:
            self._starts[place] = self.length

    @torch.inference_mode()
    def truncate(self, length: int) -> None:
        """Takes back all but so many columns."""
        self._cache.truncate(length)
