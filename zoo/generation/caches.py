"""What a decoder remembers of the tokens that it has seen, in memory that is taken once and written in place.

All rows of a cache end at the same column: the newest token is the last one of every row, and what stands
before a shorter row's first token is hidden by the mask. So a row can be dropped, moved to another place,
replaced by one that was read elsewhere, or cut back, while the others stay where they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers.masks import Mask

T = TypeVar("T")
Pair = tuple[Tensor, Tensor]
"""Keys and values, (batch, key/value heads, tokens, head_dim) each."""


class LayerCache:
    """One layer's keys and values.

    A layer that looks only so far back keeps only so much: what it will not see again is overwritten.

    Args:
        max_tokens: Columns at most.
        spare: How many of the newest tokens may be taken back.
    """

    def __init__(self, max_tokens: int, spare: int = 0) -> None:
        self.max_tokens, self.spare = max_tokens, spare
        self.length = 0
        """Tokens that it has seen."""
        self._end = 0
        self._held: Pair | None = None
        self._memory: Pair | None = None

    def update(self, k_BGTK: Tensor, v_BGTK: Tensor, reach: int | None = None) -> Pair:
        """Adds the keys and values of new tokens; returns those of all tokens that these may see.

        Args:
            k_BGTK: Keys of the new tokens.
            v_BGTK: Their values.
            reach: Tokens so far away, or farther, are seen by none; None: all are.
        """
        num_new = k_BGTK.shape[2]
        self.length += num_new
        assert self.length <= self.max_tokens, (
            f"a cache of {self.max_tokens} tokens was asked to hold {self.length}"
        )
        kept = self.max_tokens if reach is None else min(reach - 1 + self.spare, self.max_tokens)
        if self._held is None:
            room = min(2 * kept + 1, self.max_tokens)
            self._held = (_room_for(k_BGTK, room), _room_for(v_BGTK, room))
        if self._end + num_new > self._held[0].shape[2]:
            self._keep(kept)
        end = self._end + num_new
        if end > self._held[0].shape[2]:  # more at once than a window holds
            return self._pass(k_BGTK, v_BGTK, kept)
        start = 0 if reach is None else max(0, end - num_new - (reach - 1))
        seen = []
        for held_BGSK, new_BGTK in zip(self._held, (k_BGTK, v_BGTK), strict=True):
            held_BGSK[:, :, self._end : end] = new_BGTK
            seen.append(held_BGSK[:, :, start:end])
        self._end = end
        return seen[0], seen[1]

    @property
    def whole(self) -> Pair | None:
        """Keys and values with all columns that there will be; None where only a window's are kept."""
        is_whole = self._held is not None and self._held[0].shape[2] == self.max_tokens
        return self._held if is_whole and self._end == self.length else None

    def skip(self, num_tokens: int) -> None:
        """Counts tokens that were written into its memory from elsewhere."""
        self.length += num_tokens
        self._end += num_tokens

    def _keep(self, kept: int) -> None:
        """Moves the newest tokens to the front."""
        assert self._held is not None
        kept = min(kept, self._end)
        for held_BGSK in self._held:
            held_BGSK[:, :, :kept] = held_BGSK[:, :, self._end - kept : self._end].clone()
        self._end = kept

    def _pass(self, k_BGTK: Tensor, v_BGTK: Tensor, kept: int) -> Pair:
        """All tokens, of which only the newest are kept."""
        assert self._held is not None
        seen = []
        for held_BGSK, new_BGTK in zip(self._held, (k_BGTK, v_BGTK), strict=True):
            all_BGSK = torch.cat((held_BGSK[:, :, : self._end], new_BGTK), 2)
            held_BGSK[:, :, :kept] = all_BGSK[:, :, all_BGSK.shape[2] - kept :]
            seen.append(all_BGSK)
        self._end = kept
        return seen[0], seen[1]

    def memory(self, make: Callable[[], Pair]) -> Pair:
        """Keys and values of a text that does not change, made the first time."""
        if self._memory is None:
            self._memory = make()
        return self._memory

    def select(self, rows_B: Tensor, since: int = 0) -> None:
        """Makes row b what row rows[b] was, from this token on; before it, it was the same."""
        if self._held is not None and len(rows_B) != len(self._held[0]):
            self._held = tuple(held.index_select(0, rows_B) for held in self._held)  # type: ignore[assignment]
        elif self._held is not None:
            start = max(0, self._end - (self.length - since))
            for held_BGSK in self._held:
                held_BGSK[:, :, start : self._end] = held_BGSK[:, :, start : self._end].index_select(
                    0, rows_B
                )

    def select_texts(self, texts_P: Tensor) -> None:
        """Keeps what it remembers of these texts that do not change."""
        if self._memory is not None:
            self._memory = tuple(part.index_select(0, texts_P) for part in self._memory)  # type: ignore[assignment]

    def put(self, rows_N: Tensor, other: "LayerCache") -> None:
        """Replaces rows by those of a cache that has seen no more tokens."""
        if self._held is not None and other._held is not None:
            width = min(self._end, other._end)
            for mine_BGSK, theirs_NGSK in zip(self._held, other._held, strict=True):
                newest_NGSK = theirs_NGSK[:, :, other._end - width : other._end]
                mine_BGSK[rows_N, :, self._end - width : self._end] = newest_NGSK
        if self._memory is not None and other._memory is not None:
            both = zip(self._memory, other._memory, strict=True)
            self._memory = tuple(_replaced(mine, rows_N, theirs, 2) for mine, theirs in both)  # type: ignore[assignment]

    def truncate(self, length: int) -> None:
        """Takes back all but the first `length` tokens."""
        self._end -= self.length - length
        self.length = length
        assert self._end >= 0, "more tokens were taken back than were to spare"

    def move(self, num_tokens: int) -> None:
        """Puts so many columns before the first; of a negative number, forgets the first ones."""
        if self._held is not None:
            room = self._held[0].shape[2]
            end = min(self._end + max(num_tokens, 0), self.length + num_tokens, room)
            width = min(end, self._end)
            for held_BGSK in self._held:
                newest = held_BGSK[:, :, self._end - width : self._end].clone()
                held_BGSK[:, :, : end - width] = 0
                held_BGSK[:, :, end - width : end] = newest
            self._end = end
        self.length += num_tokens


def _room_for(new_BGTK: Tensor, num_tokens: int) -> Tensor:
    batch, heads, _, width = new_BGTK.shape
    # Zeros, as what is hidden is multiplied by zero all the same.
    return new_BGTK.new_zeros(batch, heads, num_tokens, width)


def _replaced(mine: Tensor, rows_N: Tensor, theirs: Tensor, dim: int) -> Tensor:
    """Rows of one tensor in another, which is padded along a dimension where it is shorter."""
    more = theirs.shape[dim] - mine.shape[dim]
    padding = (0, 0) * (mine.ndim - 1 - dim)
    if more > 0:
        mine = F.pad(mine, (*padding, 0, more))
    elif more < 0:
        theirs = F.pad(theirs, (*padding, 0, -more))
    mine[rows_N] = theirs
    return mine


@dataclass
class Source:
    """What an encoder made of the texts that are written about."""

    hidden_BSD: Tensor
    """Hidden states, each text's once: rows that are written about one follow each other."""
    real_BS: Tensor
    """Boolean, true where a token is no padding."""

    def __post_init__(self) -> None:
        self.mask = Mask(None if bool(self.real_BS.all()) else self.real_BS)
        """What is seen of it."""

    def select(self, texts_P: Tensor) -> "Source":
        """These texts alone."""
        return Source(self.hidden_BSD.index_select(0, texts_P), self.real_BS.index_select(0, texts_P))

    def put(self, rows_N: Tensor, other: "Source") -> "Source":
        """With other rows in place of some."""
        hidden_BSD = _replaced(self.hidden_BSD, rows_N, other.hidden_BSD, 1)
        return Source(hidden_BSD, _replaced(self.real_BS, rows_N, other.real_BS, 1))


class Cache:
    """What a decoder remembers, layer by layer; a layer's part is made when it is first asked for.

    Args:
        max_tokens: Columns at most.
        spare: How many of the newest tokens may be taken back.
    """

    def __init__(self, max_tokens: int, spare: int = 0) -> None:
        self.max_tokens, self.spare = max_tokens, spare
        self.source: Source | None = None
        """What the text is about, where an encoder has read it."""
        self._layers: dict[int, LayerCache] = {}
        self._made: dict[str, Any] = {}

    @property
    def length(self) -> int:
        """Tokens that every layer has seen."""
        return min([layer.length for layer in self._layers.values()]) if self._layers else 0

    def layer(self, index: int) -> LayerCache:
        """One layer's part."""
        found = self._layers.get(index)
        if found is None:
            found = self._layers[index] = LayerCache(self.max_tokens, self.spare)
        return found

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What a model makes of its weights alone, made the first time: they do not change meanwhile."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def select(self, rows_B: Tensor, since: int = 0) -> None:
        """Makes row b what row rows[b] was: drops rows, repeats them, or lets them trade places.

        Args:
            rows_B: Places so far.
            since: The number of first tokens that rows which trade places share, as beams of one prompt do;
                with it, the number of rows does not change.
        """
        for layer in self._layers.values():
            layer.select(rows_B, since)

    def select_texts(self, texts_P: Tensor) -> None:
        """Keeps these of the texts that an encoder has read."""
        if self.source is None or texts_P.tolist() == list(range(len(self.source.hidden_BSD))):
            return
        self.source = self.source.select(texts_P)
        for layer in self._layers.values():
            layer.select_texts(texts_P)

    def put(self, rows_N: Tensor, other: "Cache") -> None:
        """Replaces rows by those of a cache that has seen no more tokens.

        Args:
            rows_N: Their places here, in the order in which they stand there.
            other: Where they were read.
        """
        assert other.length <= self.length, f"{other.length} tokens were put beside {self.length}"
        for index, layer in other._layers.items():
            self.layer(index).put(rows_N, layer)
        if self.source is not None and other.source is not None:
            self.source = self.source.put(rows_N, other.source)

    def fixed(self) -> "FixedCache | None":
        """The same memory, with as many columns at each step; None where a layer keeps only a window's."""
        whole = [self._layers[index].whole for index in sorted(self._layers)]
        return None if None in whole else FixedCache([pair for pair in whole if pair is not None])

    def skip(self, num_tokens: int) -> None:
        """Counts tokens that were written into its memory by `fixed`."""
        for layer in self._layers.values():
            layer.skip(num_tokens)

    def truncate(self, length: int) -> None:
        """Takes back all but the first `length` tokens of every row."""
        for layer in self._layers.values():
            layer.truncate(length)

    def move(self, num_tokens: int) -> None:
        """Puts so many columns before the first; of a negative number, forgets the first ones."""
        for layer in self._layers.values():
            layer.move(num_tokens)


# Columns whose number does not change, so that one compiled step, or one CUDA graph, serves every token.
# They are modules with buffers, as a graph may count on a buffer's place in memory.


class FixedLayerCache(nn.Module):
    """One layer's keys and values (batch, key/value heads, columns, head_dim), of which all are returned."""

    k_BGSK: Tensor
    v_BGSK: Tensor
    column_1: Tensor

    def __init__(self, pair: Pair, column_1: Tensor) -> None:
        super().__init__()
        self.register_buffer("k_BGSK", pair[0])
        self.register_buffer("v_BGSK", pair[1])
        self.register_buffer("column_1", column_1)

    def update(self, k_BG1K: Tensor, v_BG1K: Tensor, reach: int | None = None) -> Pair:
        """Writes one token's keys and values into the column that is its; what else is real, a mask says."""
        self.k_BGSK.index_copy_(2, self.column_1, k_BG1K)
        self.v_BGSK.index_copy_(2, self.column_1, v_BG1K)
        return self.k_BGSK, self.v_BGSK


class FixedCache(nn.Module):
    """What a decoder remembers, for steps of one token that all have the same shapes.

    Args:
        layers: Keys and values of each, with all columns that there will be.
    """

    length = 0  # positions are counted by the mask
    column_1: Tensor
    real_BS: Tensor

    def __init__(self, layers: Sequence[Pair]) -> None:
        super().__init__()
        keys_BGSK, _ = layers[0]
        batch, _, num_columns, _ = keys_BGSK.shape
        self.register_buffer("column_1", torch.zeros(1, dtype=torch.long, device=keys_BGSK.device))
        self.register_buffer("real_BS", keys_BGSK.new_zeros(batch, num_columns, dtype=torch.bool))
        self.layers = nn.ModuleList(FixedLayerCache(pair, self.column_1) for pair in layers)

    def place(self, column: int, starts_B1: Tensor) -> None:
        """Says where the next token goes, and where each row begins."""
        self.column_1.fill_(column)
        columns_S = torch.arange(self.real_BS.shape[1], device=self.real_BS.device)
        self.real_BS.copy_((columns_S >= starts_B1) & (columns_S <= column))

    def layer(self, index: int) -> FixedLayerCache:
        """One layer's part."""
        found = self.layers[index]
        assert isinstance(found, FixedLayerCache)
        return found
