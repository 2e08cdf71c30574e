"""Plans of batches whose rows belong together: of like length, or packed into one another."""

import functools
import random
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch

from zoo.data.loading import Position, require_same
from zoo.training.randomness import seed_of

Group = list[int]
"""Items, by their numbers, that stay together: a packed row, or a batch."""


class Gatherer(Protocol):
    """Makes groups of items as they arrive, and remembers those that wait."""

    def add(self, item: int, size: int) -> list[Group]:
        """Takes an item; returns the groups that are thereby complete."""

    def rest(self) -> list[Group]:
        """The groups of what still waits, at the end."""

    def state(self) -> list[Any]:
        """What it takes to go on, as plain values."""

    def restore(self, state: Sequence[Any]) -> None:
        """Goes on from there."""


class SortedBatches:
    """Batches of items of like length, as many as, padded to the longest, fit into `batch_tokens`.

    Args:
        batch_tokens: Tokens of a batch, padding counted.
        at_once: Items that are sorted at once; the batches made of them come in random order.
    """

    def __init__(self, batch_tokens: int, at_once: int = 4096) -> None:
        self.batch_tokens, self.at_once = batch_tokens, at_once
        self._waiting: list[tuple[int, int]] = []

    def add(self, item: int, size: int) -> list[Group]:
        """Takes an item; returns batches when enough have come to be sorted."""
        self._waiting.append((size, item))
        return self.rest() if len(self._waiting) == self.at_once else []

    def rest(self) -> list[Group]:
        """Batches of all that waits."""
        groups: list[Group] = []
        longest = 0
        waiting = sorted(self._waiting, reverse=True)
        for size, item in waiting:
            if groups and longest * (len(groups[-1]) + 1) <= self.batch_tokens:
                groups[-1].append(item)
            else:
                groups.append([item])
                longest = size
        random.Random(seed_of("groups", *(item for _, item in waiting))).shuffle(groups)  # noqa: S311 - order, not secrets
        self._waiting = []
        return groups

    def state(self) -> list[Any]:
        """What waits."""
        return [list(pair) for pair in self._waiting]

    def restore(self, state: Sequence[Any]) -> None:
        """Goes on from there."""
        self._waiting = [(size, item) for size, item in state]


class Gathered:
    """Every item once an epoch, drawn in an order of seed and epoch, and gathered on its way into batches.

    Every epoch has as many batches as the first; what its groups leave over waits.

    Args:
        sizes: Tokens of each item.
        gatherer: Makes what gathers.
        groups_at_once: Groups of one process's batch.
        seed: Of the order.
        rank: Of this process among those that train.
        world_size: How many these are; they take their batches from one order by turns.
        is_shuffled: Otherwise the order is the items' own.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        gatherer: Callable[[], Gatherer],
        groups_at_once: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        is_shuffled: bool = True,
    ) -> None:
        self.sizes, self.gatherer, self.groups_at_once = sizes, gatherer, groups_at_once
        self.seed, self.rank, self.world_size, self.is_shuffled = seed, rank, world_size, is_shuffled

    @property
    def num_rows(self) -> int:
        """Items of an epoch."""
        return len(self.sizes)

    @property
    def _at_once(self) -> int:
        return self.groups_at_once * self.world_size

    @functools.cached_property
    def _length(self) -> int:
        gatherer = self.gatherer()
        made = (len(gatherer.add(item, int(self.sizes[item]))) for item in self._order(epoch=0))
        return (sum(made) + len(gatherer.rest())) // self._at_once

    def __len__(self) -> int:
        return self._length

    def start(self, epoch: int) -> Position:
        """Where an epoch begins."""
        return {"epoch": epoch, "batches": 0, "rows": 0, "waiting": [], "groups": []}

    def batches(self, position: Position) -> Iterator[tuple[list[int], Position]]:
        """Items of each batch from a position to the epoch's end, and the position after it."""
        gatherer = self.gatherer()
        gatherer.restore(position["waiting"])
        groups, rows, order = list(position["groups"]), position["rows"], self._order(position["epoch"])
        for batches in range(position["batches"] + 1, len(self) + 1):
            while len(groups) < self._at_once and rows < self.num_rows:
                groups += gatherer.add(order[rows], int(self.sizes[order[rows]]))
                rows += 1
            if len(groups) < self._at_once:
                wanted = (len(self) + 1 - batches) * self._at_once
                groups = _at_least(wanted, groups + gatherer.rest())
            step, groups = groups[: self._at_once], groups[self._at_once :]
            mine = step[self.rank * self.groups_at_once :][: self.groups_at_once]
            place = {"epoch": position["epoch"], "batches": batches, "rows": rows}
            following = {**place, "waiting": gatherer.state(), "groups": list(groups)}
            yield [item for group in mine for item in group], following

    def _order(self, epoch: int) -> list[int]:
        if not self.is_shuffled:
            return list(range(self.num_rows))
        generator = torch.Generator().manual_seed(seed_of("order", self.seed, epoch))
        order: list[int] = torch.randperm(self.num_rows, generator=generator).tolist()
        return order

    def state(self, position: Position) -> Position:
        """What a checkpoint keeps of a position."""
        return {**position, "num_rows": self.num_rows, "seed": self.seed, "at_once": self._at_once}

    def resumed(self, state: Position) -> Position:
        """The position that a checkpoint kept, also of a run on more or fewer processes.

        Raises:
            CheckpointError: The items, or their order, are others.
        """
        require_same(state, num_rows=self.num_rows, seed=self.seed)
        batches = state["batches"] * state["at_once"] // self._at_once
        return {**{name: state[name] for name in self.start(0)}, "batches": batches}


def _at_least(count: int, groups: list[Group]) -> list[Group]:
    """So many groups, the largest halved where there are fewer."""
    groups = sorted(groups, key=len) if len(groups) < count else groups
    while len(groups) < count and len(groups[-1]) > 1:
        largest = groups.pop()
        for half in (largest[::2], largest[1::2]):
            insort(groups, half, key=len)
    return groups
