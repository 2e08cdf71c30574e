"""Batches to train on that a run can take up again, bit for bit, at any of them.

Which rows make a batch is a pure function of seed, epoch and place in the epoch, so that processes that make
batches ahead are told which, and a checkpoint keeps the place after the last batch that the trainer had.
"""

import contextlib
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from zoo.data.bad_rows import BadRows
from zoo.errors import CheckpointError, DataError, ZooError
from zoo.heads.base import Batch, unlabelled
from zoo.training.randomness import seed_of, seeded

Collate = Callable[[list[Any]], Batch]


class Items(Protocol):
    """What batches are made of, by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Arrange = Callable[[torch.Generator], Iterable[int]]
"""Draws the order of an epoch's rows."""

Position = dict[str, Any]
"""A place in the data: `epoch`, the `batches` handed out in it, and whatever a plan needs besides to go on
there, as tensors and plain values."""


class Plan(Protocol):
    """Which rows make each batch.

    What a plan gathers before it knows, like the buffer of a packer, is part of the position.
    """

    def __len__(self) -> int:
        """Batches of an epoch."""

    def start(self, epoch: int) -> Position:
        """Where an epoch begins."""

    def batches(self, position: Position) -> Iterator[tuple[list[int], Position]]:
        """Rows of each batch from a position to the epoch's end, and the position after it."""

    def state(self, position: Position) -> Position:
        """What a checkpoint keeps of a position."""

    def resumed(self, state: Position) -> Position:
        """The position that a checkpoint kept, also of a run on more or fewer processes."""


def require_same(state: Position, **data: int) -> None:
    """Refuses to go on with other data.

    Raises:
        CheckpointError: With what differs.
    """
    for name, mine in data.items():
        if state[name] != mine:
            raise CheckpointError(
                f"the checkpoint was made with data of {name} {state[name]}, now it is {mine}",
                hint="go on with the data and the data.seed that it was trained on",
            )


class RandomOrder:
    """Every row once an epoch, in an order drawn from seed and epoch; the last rows fill no batch and wait.

    Args:
        num_rows: Of the data.
        batch_size: Rows of one process's batch.
        seed: Of the order.
        rank: Of this process among those that train.
        world_size: How many these are; they take their batches from one order by turns.
        arrange: Draws another kind of order.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        arrange: Arrange | None = None,
    ) -> None:
        self.num_rows, self.batch_size, self.seed = num_rows, batch_size, seed
        self.rank, self.world_size, self.arrange = rank, world_size, arrange

    @property
    def _rows_at_once(self) -> int:
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        return self.num_rows // self._rows_at_once

    def start(self, epoch: int) -> Position:
        """Where an epoch begins."""
        return {"epoch": epoch, "batches": 0, "rows": 0}

    def batches(self, position: Position) -> Iterator[tuple[list[int], Position]]:
        """Rows of each batch from a position to the epoch's end, and the position after it."""
        order = self._order(position["epoch"])
        for start in range(position["rows"], self.num_rows - self._rows_at_once + 1, self._rows_at_once):
            mine = start + self.rank * self.batch_size
            position = {**position, "batches": position["batches"] + 1, "rows": start + self._rows_at_once}
            yield order[mine : mine + self.batch_size], position

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed_of("order", self.seed, epoch))
        if self.arrange is not None:
            return list(self.arrange(generator))
        order: list[int] = torch.randperm(self.num_rows, generator=generator).tolist()
        return order

    def state(self, position: Position) -> Position:
        """What a checkpoint keeps of a position."""
        return {**position, "num_rows": self.num_rows, "seed": self.seed, "rows_at_once": self._rows_at_once}

    def resumed(self, state: Position) -> Position:
        """The position that a checkpoint kept, also of a run on more or fewer processes.

        Raises:
            CheckpointError: The rows, or their order, are others.
        """
        require_same(state, num_rows=self.num_rows, seed=self.seed)
        batches = state["batches"]
        if state["rows_at_once"] != self._rows_at_once:
            batches = len(self) - (self.num_rows - state["rows"]) // self._rows_at_once
        return {"epoch": state["epoch"], "batches": batches, "rows": state["rows"]}


class Handed(NamedTuple):
    """The batch that was handed out last."""

    epoch: int
    batch: int
    rows: list[int]


class Loader:
    """Batches of a plan. Each iteration goes on where the last one stopped, to the end of the epoch.

    What is random in a row or in `collate` is drawn from seeds of seed, epoch and place, so that neither the
    number of workers nor a restart changes it.

    Args:
        rows: What batches are made of, by number.
        plan: Which rows make which batch.
        collate: Rows as a batch; by default torch's way.
        seed: Of what is random in a row.
        num_workers: Processes that make batches.
        bad: What is done about a row of which no batch can be made.
    """

    def __init__(
        self,
        rows: Items,
        plan: Plan,
        collate: Collate | None,
        seed: int,
        num_workers: int = 0,
        bad: BadRows | None = None,
    ) -> None:
        self.rows, self.plan, self.num_workers = rows, plan, num_workers
        self.bad = bad or BadRows()
        self.limit: float = float("inf")
        """Batches after which an epoch is cut, as `limit_train_batches` says."""
        self.handed: Handed | None = None
        self._fetch = _Fetch(rows, collate or default_collate, seed, self.bad.are_skipped)
        self._position = plan.start(epoch=0)

    def __len__(self) -> int:
        return len(self.plan)

    @property
    def batches_done(self) -> int:
        """Batches that were handed out in this epoch."""
        return int(self._position["batches"])

    def __iter__(self) -> Iterator[Batch]:
        epoch, ahead = self._position["epoch"], deque[tuple[Handed, Position]]()

        def drawn() -> Iterator[Handed]:
            for handed, position in self._planned(epoch):
                ahead.append((handed, position))
                yield handed

        for batch in _fetched(self._fetch, drawn, self.num_workers):
            self.handed, self._position = ahead.popleft()
            yield _received(batch, self.bad, "row")
        if self._position["epoch"] == epoch:  # nothing was left of it
            self._position = self.plan.start(epoch + 1)

    def _planned(self, epoch: int) -> Iterator[tuple[Handed, Position]]:
        left = None if self.limit == float("inf") else max(0, int(self.limit) - self.batches_done)
        planned = islice(self.plan.batches(self._position), left)
        for number, (current, following) in enumerate(pairwise(chain(planned, (None,))), self.batches_done):
            assert current is not None
            rows, position = current
            # The epoch ends before its last batch is handed out: nobody asks for one after it.
            yield Handed(epoch, number, rows), self.plan.start(epoch + 1) if following is None else position

    def described(self) -> str:
        """The batch that was handed out last, in words."""
        if self.handed is None:
            return "no batch"
        epoch, batch, rows = self.handed
        named = [self._place(row) for row in rows[:8]]
        return f"batch {batch} of epoch {epoch}, rows {', '.join(named)}{', …' if len(rows) > 8 else ''}"

    def _place(self, row: int) -> str:
        try:
            return str(getattr(self.rows[row], "place", row))
        except Exception:  # it may be the one that cannot be read
            return str(row)

    def state_dict(self) -> Position:
        """The place after the batch that was handed out last."""
        return self.plan.state(self._position)

    def load_state_dict(self, state: Position) -> None:
        """Goes on from a place."""
        self._position = self.plan.resumed(state)


class HeldOut:
    """Rows in their own order, the same batches in every iteration.

    Args:
        rows: What batches are made of, by number.
        batch_size: Rows of a batch.
        collate: Rows as a batch; by default torch's way.
        seed: Of what is random in a row.
        num_workers: Processes that make batches.
        rank: Of this process among those that read; each has rows of its own, and as many batches as the
            others: one that lacks rows has some in which nothing bears a label.
        world_size: How many these are.
        bad: What is done about a row of which no batch can be made.
    """

    def __init__(
        self,
        rows: Items,
        batch_size: int,
        collate: Collate | None,
        seed: int,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        bad: BadRows | None = None,
    ) -> None:
        self.bad = bad or BadRows()
        mine = range(rank, len(rows), world_size)
        self._asked = [
            Handed(0, start // batch_size, list(mine[start : start + batch_size]))
            for start in range(0, len(mine), batch_size)
        ]
        self._num_own = len(self._asked)
        most = len(range(0, len(range(0, len(rows), world_size)), batch_size))
        # Processes that share a model compute together: where one has a batch more, all need one.
        self._asked += [Handed(0, number, [len(rows) - 1]) for number in range(self._num_own, most)]
        self._fetch = _Fetch(rows, collate or default_collate, seed, self.bad.are_skipped)
        self.num_workers = num_workers

    def __len__(self) -> int:
        return len(self._asked)

    def __iter__(self) -> Iterator[Batch]:
        fetched = _fetched(self._fetch, lambda: iter(self._asked), self.num_workers)
        for number, batch in enumerate(fetched):
            received = _received(batch, self.bad, "held-out row")
            yield received if number < self._num_own else unlabelled(received)


class _Failure(NamedTuple):
    """An error on its way from a worker, which would otherwise wrap it in a traceback."""

    error: ZooError


class _Rest(NamedTuple):
    """A batch without those of its rows that are bad."""

    batch: Batch
    bad: dict[int, ZooError]


class _Fetch(Dataset[Any]):
    """Batches by the numbers of their rows."""

    def __init__(self, rows: Items, collate: Collate, seed: int, skips: bool) -> None:
        self.rows, self.collate, self.seed, self.skips = rows, collate, seed, skips

    def __getitem__(self, asked: Handed) -> Batch | _Failure | _Rest:
        try:
            return self._batch(asked, asked.rows)
        except ZooError as error:
            return (self._without_bad(asked) if self.skips else None) or _Failure(error)

    def _batch(self, asked: Handed, rows: list[int]) -> Batch:
        with seeded(seed_of("rows", self.seed, asked.epoch, asked.rows[0])):
            found: list[Any] = []
            try:
                for row in rows:
                    found.append(self.rows[row])
                return self.collate(found)
            except ZooError:
                raise
            except Exception as error:  # whatever a row may hold
                told = f"{type(error).__name__}: {error}"
                if len(found) < len(rows):
                    raise DataError(f"row {rows[len(found)]} cannot be read: {told}") from error
                places = (str(getattr(item, "place", row)) for row, item in zip(rows, found, strict=True))
                raise DataError(f"the rows {', '.join(places)} make no batch: {told}") from error

    def _without_bad(self, asked: Handed) -> _Rest | None:
        """What is left of a batch, or a stand-in of which nothing is learnt: others may wait for a batch."""
        bad: dict[int, ZooError] = {}
        for row in asked.rows:
            try:
                self._batch(asked, [row])
            except ZooError as error:
                bad[row] = error
        good = [row for row in asked.rows if row not in bad]
        try:
            return _Rest(self._batch(asked, good) if good else self._stand_in(asked), bad) if bad else None
        except ZooError:
            return None

    def _stand_in(self, asked: Handed) -> Batch:
        first = asked.rows[0]
        for row in chain(range(first + 1, len(self.rows)), range(first)):
            with contextlib.suppress(ZooError):
                return unlabelled(self._batch(asked, [row]))
        raise DataError("there is no row of which a batch can be made")


class _Sampler:
    def __init__(self, drawn: Callable[[], Iterator[Handed]]) -> None:
        self.drawn = drawn

    def __iter__(self) -> Iterator[Handed]:
        return self.drawn()


def _fetched(
    fetch: _Fetch, drawn: Callable[[], Iterator[Handed]], num_workers: int
) -> Iterator[Batch | _Failure | _Rest]:
    made = DataLoader(
        fetch,
        batch_size=None,
        sampler=_Sampler(drawn),
        num_workers=num_workers,
        collate_fn=_as_it_is,
        generator=torch.Generator().manual_seed(0),  # it draws from torch's own otherwise
        worker_init_fn=_outlive_signals,
    )
    try:
        yield from made
    except RuntimeError as error:
        raise death_of_worker(error) or error from error


def death_of_worker(error: RuntimeError) -> DataError | None:
    """What to say of an error of torch's, if it is about a dead worker; it may be raised amid any step."""
    if "DataLoader worker" not in str(error):
        return None
    return DataError(
        f"a process that makes batches died: {str(error).splitlines()[0].strip()}",
        hint="too little memory is the commonest cause: fewer data.num_workers need less",
    )


def _received(batch: Batch | _Failure | _Rest, bad: BadRows, kind: str) -> Batch:
    if isinstance(batch, _Failure):
        raise batch.error
    if isinstance(batch, _Rest):
        for row, error in batch.bad.items():
            bad.meet(f"{kind} {row}", error)
        return batch.batch
    return batch


def _as_it_is(batch: Any) -> Any:
    return batch


def _outlive_signals(worker: int) -> None:
    """A scheduler signals every process; those that make batches are needed until the run has saved."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
