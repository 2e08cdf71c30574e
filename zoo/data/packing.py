"""Several documents in one row, so that little of a batch is padding.

Krell et al., 2021: https://arxiv.org/abs/2107.02027. A batch tells documents apart by its `attention_mask`,
which numbers them in each row; attention never looks from one into another, and positions start anew.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.gathering import Group
from zoo.data.masking import Masking
from zoo.heads.base import Batch
from zoo.layers import IGNORED

NUM_OPEN = 64
"""Rows that wait for what fits into them."""


class OpenRows:
    """Rows that are being filled: what comes next goes where it leaves the least room.

    However much is packed, only these rows are in memory, and the first full one is ready at once.

    Args:
        capacity: Tokens of a row.
        num_open: At most so many rows wait; of more, the fullest is closed.
    """

    def __init__(self, capacity: int, num_open: int = NUM_OPEN) -> None:
        self.capacity, self.num_open = capacity, num_open
        self._rows: list[tuple[int, int, list[int]]] = []
        self._opened = 0

    def add(self, item: int, size: int) -> list[Group]:
        """Puts an item, by its number, into a row; returns the row that is thereby closed, if any."""
        size = min(size, self.capacity)
        fitting = bisect_left(self._rows, (size,))
        if fitting < len(self._rows):
            room, opened, items = self._rows.pop(fitting)
        else:
            room, opened, items = self.capacity, self._opened, []
            self._opened += 1
        items.append(item)
        if room == size:
            return [items]
        insort(self._rows, (room - size, opened, items))
        return [self._rows.pop(0)[2]] if len(self._rows) > self.num_open else []

    def rest(self) -> list[Group]:
        """The rows that no item has closed, the fullest first."""
        rows, self._rows = self._rows, []
        return [items for _, _, items in rows]

    def state(self) -> list[Any]:
        """What it takes to go on, as plain values."""
        return [[room, opened, list(items)] for room, opened, items in self._rows]

    def restore(self, state: Sequence[Any]) -> None:
        """Goes on from there."""
        self._rows = [(room, opened, list(items)) for room, opened, items in state]
        self._opened = 1 + max((opened for _, opened, _ in self._rows), default=-1)


def in_rows(sizes: Sequence[Sequence[int]], capacities: Sequence[int]) -> list[list[int]]:
    """Items in the order given, as few rows as that order allows.

    Args:
        sizes: Of each item, by what it takes of each capacity: a pair of texts takes some of either.
        capacities: Of a row.
    """
    rows: list[list[int]] = []
    taken = list(capacities)
    for item, size in enumerate(sizes):
        together = [before + more for before, more in zip(taken, size, strict=True)]
        if rows and all(total <= limit for total, limit in zip(together, capacities, strict=True)):
            taken = together
            rows[-1].append(item)
        else:
            taken = list(size)
            rows.append([item])
    return rows


def laid_out(
    texts: Sequence[Sequence[int]], rows: Sequence[Sequence[int]], padding: int
) -> tuple[Tensor, Tensor]:
    """Texts side by side, and which is which.

    Args:
        texts: Ids of each.
        rows: The numbers of the texts of each row.
        padding: What stands after the last text of a row.

    Returns:
        Ids and the documents' numbers from one, zero for padding, each (rows, tokens).
    """
    order, counts = [item for row in rows for item in row], [len(row) for row in rows]
    lengths = np.array([len(texts[item]) for item in order], dtype=np.int64)
    documents = np.array([number for count in counts for number in range(1, count + 1)], dtype=np.int64)
    ends = np.cumsum(lengths)
    # Where each row's first text would begin, were all texts one after the other.
    firsts = np.repeat((ends - lengths)[documents == 1], counts)
    width = -8 * (-int((ends - firsts).max()) // 8)
    begins = np.repeat(np.arange(len(rows)) * width, counts) - firsts
    places = np.arange(ends[-1]) + np.repeat(begins, lengths)
    ids_BT = np.full(len(rows) * width, padding, dtype=np.int64)
    documents_BT = np.zeros_like(ids_BT)
    ids_BT[places] = np.concatenate([np.asarray(texts[item], dtype=np.int64) for item in order])
    documents_BT[places] = np.repeat(documents, lengths)
    laid = (torch.from_numpy(flat.reshape(len(rows), width)) for flat in (ids_BT, documents_BT))
    return next(laid), next(laid)


def without_first(ids_BT: Tensor, documents_BT: Tensor) -> Tensor:
    """Labels of a language model: the ids, but none for padding and for what begins a document."""
    before_BT = torch.nn.functional.pad(documents_BT[:, :-1], (1, 0))
    return ids_BT.masked_fill((documents_BT == 0) | (documents_BT != before_BT), IGNORED)


@dataclass(frozen=True)
class Packing:
    """Documents as packed rows, for a language model or, with `masking`, for a masked one."""

    capacity: int
    """Tokens of a row."""
    padding: int
    """What stands after the last document of a row."""
    masking: Masking | None = None
    """Hides tokens."""

    def __call__(self, items: list[Batch]) -> Batch:
        """One batch of documents, in the order given."""
        texts = [item["input_ids"] for item in items]
        rows = in_rows([[len(text)] for text in texts], [self.capacity])
        ids_BT, documents_BT = laid_out(texts, rows, self.padding)
        batch = {"input_ids": ids_BT, "labels": without_first(ids_BT, documents_BT)}
        if self.masking is not None:
            whole_BT = ids_BT.masked_fill(documents_BT == 0, IGNORED)
            both = zip(ids_BT, whole_BT, strict=True)
            batch = self.masking([{"input_ids": ids, "labels": labels} for ids, labels in both])
        num_bytes = torch.stack([item["num_bytes"] for item in items])
        return {**batch, "attention_mask": documents_BT, "num_bytes": num_bytes}
