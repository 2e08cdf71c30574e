"""The order of rows, and taking it up again anywhere."""

import os
import random
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.base import ZooData
from zoo.data.loading import HeldOut, Loader, RandomOrder
from zoo.data.mixture import Mixed, Mixture
from zoo.errors import CheckpointError, DataError
from zoo.layers import IGNORED


class Numbers:
    """Rows that are their own numbers; `noisy` ones draw from every generator."""

    def __init__(self, count: int, *, noisy: bool = False) -> None:
        self.count, self.noisy = count, noisy

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        noise = random.random() + np.random.rand() + float(torch.rand(())) if self.noisy else 0.0
        return {"row": index, "noise": noise}


def loader_of(
    count: int, size: int = 4, *, rank: int = 0, of: int = 1, seed: int = 0, **choices: Any
) -> Loader:
    workers, noisy = choices.get("workers", 0), choices.get("noisy", False)
    plan = RandomOrder(count, size, seed, rank, of)
    return Loader(Numbers(count, noisy=noisy), plan, None, seed, workers)


def rows_of(batches: Any) -> list[list[int]]:
    return [batch["row"].tolist() for batch in batches]


def taken(loader: Loader, count: int) -> list[list[int]]:
    """So many batches, across epochs."""
    found: list[list[int]] = []
    while len(found) < count:
        for batch in loader:
            found.append(batch["row"].tolist())
            if len(found) == count:
                break
    return found


def test_an_epoch_has_each_row_once_and_the_next_another_order() -> None:
    loader = loader_of(20)
    first, second = rows_of(loader), rows_of(loader)
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(20))
    assert first != second


def test_the_order_follows_from_the_seed() -> None:
    assert rows_of(loader_of(20, seed=1)) == rows_of(loader_of(20, seed=1)) != rows_of(loader_of(20, seed=2))


@settings(deadline=None, max_examples=60)
@given(st.integers(4, 40), st.integers(1, 4), st.integers(0, 30), st.integers(0, 20))
def test_a_loader_goes_on_where_another_was_left(count: int, size: int, before: int, after: int) -> None:
    whole = taken(loader_of(count, size), before + after)
    left, resumed = loader_of(count, size), loader_of(count, size)
    assert taken(left, before) == whole[:before]
    resumed.load_state_dict(left.state_dict())
    assert taken(resumed, after) == whole[before:]


def test_what_workers_fetched_ahead_was_not_handed_out() -> None:
    left, resumed = loader_of(40, workers=2), loader_of(40, workers=2)
    whole = taken(loader_of(40), 6)
    assert taken(left, 3) == whole[:3]
    resumed.load_state_dict(left.state_dict())
    assert taken(resumed, 3) == whole[3:]


def test_going_on_reads_no_row_that_was_trained_on() -> None:
    read: list[int] = []

    class Counted(Numbers):
        def __getitem__(self, index: int) -> dict[str, Any]:
            read.append(index)
            return super().__getitem__(index)

    left = loader_of(40)
    seen = [row for batch in taken(left, 8) for row in batch]
    resumed = Loader(Counted(40), RandomOrder(40, 4, 0), None, 0)
    resumed.load_state_dict(left.state_dict())
    assert read == []
    taken(resumed, 1)
    assert len(read) == 4
    assert not set(read) & set(seen)


class Data(ZooData):
    tasks = frozenset({"text-generation"})

    def setup(self, stage: str) -> None:
        pass

    def train_dataloader(self) -> Loader:
        return self.loader(Numbers(40), None, is_training=True)

    def val_dataloader(self) -> HeldOut:
        return self.loader(Numbers(40), None, is_training=False)


@pytest.mark.parametrize("is_mixture", [False, True])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_place_is_told_before_batches_are_asked_for_or_after(is_late: bool, is_mixture: bool) -> None:
    """Lightning restores after the loader is there where processes share a model, and before elsewhere."""

    def data() -> Any:
        alone = Data(0.1, "bpe", 300, 4, 0, 0)
        return Mixture({"one": alone}) if is_mixture else alone

    left, resumed = data(), data()
    whole = taken(left.train_dataloader(), 5)
    left = data()
    assert taken(left.train_dataloader(), 2) == whole[:2]
    if is_late:
        loader = resumed.train_dataloader()
        resumed.load_state_dict(left.state_dict())
    else:
        resumed.load_state_dict(left.state_dict())
        loader = resumed.train_dataloader()
    assert taken(loader, 3) == whole[2:]


def test_the_epoch_is_over_before_its_last_batch_is_handed_out() -> None:
    loader = loader_of(8)
    batches = iter(loader)
    next(batches)
    assert (loader.state_dict()["epoch"], loader.batches_done) == (0, 1)
    next(batches)
    assert (loader.state_dict()["epoch"], loader.batches_done) == (1, 0)


def test_asking_for_an_iterator_moves_nothing() -> None:
    loader = loader_of(20)
    iter(loader), iter(loader)
    assert rows_of(loader) == rows_of(loader_of(20))


def test_a_limit_ends_the_epoch() -> None:
    loader, whole = loader_of(20), loader_of(20)
    loader.limit = 2
    assert rows_of(loader) == rows_of(whole)[:2]
    assert rows_of(loader) == rows_of(whole)[:2]  # of the second epoch


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), st.integers(12, 60))
def test_more_or_fewer_processes_go_on_with_each_row_once(
    before: int, after: int, steps: int, count: int
) -> None:
    steps = min(steps, count // (2 * before))
    first = [loader_of(count, 2, rank=rank, of=before) for rank in range(before)]
    seen = [row for loader in first for batch in taken(loader, steps) for row in batch]
    state = first[0].state_dict()
    if state["epoch"] > 0:
        return
    left = count - len(seen)
    second = [loader_of(count, 2, rank=rank, of=after) for rank in range(after)]
    for loader in second:
        loader.load_state_dict(state)
        assert len(loader) - loader.batches_done == left // (2 * after)
        seen += [row for batch in rows_of(loader) for row in batch]
    assert len(seen) == len(set(seen))
    assert count - len(seen) < 2 * after


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_random_in_a_row_depends_on_neither_workers_nor_restarts(workers: int) -> None:
    def noise(loader: Any) -> list[Any]:
        return [batch["noise"].tolist() for batch in loader]

    whole = loader_of(20, noisy=True)
    first, second = noise(whole), noise(whole)
    assert len(set(map(str, first + second))) == 10
    loader = loader_of(20, noisy=True, workers=workers)
    for _ in islice(loader, 2):
        torch.rand(3), random.random(), np.random.rand()
    assert noise(loader) == first[2:]
    assert noise(loader) == second


def test_loading_leaves_the_generators_alone() -> None:
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    for workers in (0, 2):
        rows_of(loader_of(20, noisy=True, workers=workers))
        rows_of(HeldOut(Numbers(20, noisy=True), 4, None, 0, workers))
    assert before[:2] == (random.getstate(), str(np.random.get_state()))
    assert torch.equal(before[2], torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_held_out_batches_are_the_same_each_time(workers: int) -> None:
    loader = HeldOut(Numbers(10, noisy=True), 4, None, 0, workers)
    first, second = (list(loader) for _ in range(2))
    assert rows_of(first) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [batch["noise"].tolist() for batch in first] == [batch["noise"].tolist() for batch in second]
    assert len(loader) == 3


class Labelled(Numbers):
    """Rows that bear a label."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"row": index, "labels": index}


def labelled_rows(loader: HeldOut) -> list[tuple[int, int]]:
    pairs = [zip(batch["row"].tolist(), batch["labels"].tolist(), strict=True) for batch in loader]
    return list(chain(*pairs))


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_held_out_rows_are_read_once_by_all_processes_together(count: int, size: int, processes: int) -> None:
    loaders = [HeldOut(Labelled(count), size, None, 0, 0, rank, processes) for rank in range(processes)]
    read = [row for loader in loaders for row, label in labelled_rows(loader) if label != IGNORED]
    assert sorted(read) == list(range(count))
    assert {len(loader) for loader in loaders} == {len(list(loader)) for loader in loaders}
    assert len({len(loader) for loader in loaders}) == 1  # they would wait for each other


def test_other_data_or_another_seed_is_refused() -> None:
    state = loader_of(20).state_dict()
    with pytest.raises(
        CheckpointError, match=r"^the checkpoint was made with data of num_rows 20, now it is 24"
    ):
        loader_of(24).load_state_dict(state)
    with pytest.raises(
        CheckpointError, match=r"^the checkpoint was made with data of seed 0, now it is 1"
    ) as error:
        loader_of(20, seed=1).load_state_dict(state)
    assert error.value.hint == "go on with the data and the data.seed that it was trained on"


class Broken(Numbers):
    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == 3:
            raise KeyError("text")
        return {"row": "not a number" if index == 5 else index}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 3], "row 3 cannot be read: KeyError: 'text'"),
        ([0, 5], "the rows 0, 5 make no batch: AssertionError: "),
    ],
)
def test_a_row_that_makes_no_batch_is_named(workers: int, rows: list[int], message: str) -> None:
    def collate(found: list[Any]) -> Any:
        assert all(isinstance(row["row"], int) for row in found)
        return {"row": found}

    class Plan(RandomOrder):
        def batches(self, position: Any) -> Any:
            yield rows, self.start(1)

    loader = Loader(Broken(6), Plan(6, 2, 0), collate, 0, workers)
    with pytest.raises(DataError) as error:
        list(loader)
    assert error.value.message.startswith(message)
    assert loader.described() == f"batch 0 of epoch 0, rows {', '.join(map(str, rows))}"


class Deadly(Numbers):
    def __getitem__(self, index: int) -> dict[str, Any]:
        os._exit(1)


def test_a_worker_that_dies_is_reported() -> None:
    loader = Loader(Deadly(8), RandomOrder(8, 2, 0), None, 0, num_workers=1)
    with pytest.raises(DataError, match=r"^a process that makes batches died: ") as error:
        list(loader)
    assert error.value.hint == "too little memory is the commonest cause: fewer data.num_workers need less"


def test_a_mixture_goes_on_where_another_was_left() -> None:
    def mixed(steps: Any) -> Mixed:
        parts = {"a": loader_of(20, workers=2), "b": loader_of(9, 2, seed=4)}
        return Mixed(parts, steps, is_training=True)

    for steps in (None, {"a": 3, "b": 6}):
        whole = mixed(steps)
        expected = [(batch["head"], batch["row"].tolist()) for _ in range(2) for batch in whole]
        left = mixed(steps)
        found = [(batch["head"], batch["row"].tolist()) for batch in islice(left, 5)]
        resumed = mixed(steps)
        resumed.load_state_dict(left.state_dict())
        found += [(batch["head"], batch["row"].tolist()) for _ in range(2) for batch in resumed]
        assert found[: len(expected)] == expected


class Buffered:
    """A plan that gathers rows before it gives some, as a packer does; its buffer is part of its position."""

    def __len__(self) -> int:
        return 5

    def start(self, epoch: int) -> dict[str, Any]:
        return {"epoch": epoch, "batches": 0, "next": 0, "buffer": torch.tensor([], dtype=torch.int64)}

    def batches(self, position: dict[str, Any]) -> Any:
        buffer, following = position["buffer"].tolist(), position["next"]
        for number in range(position["batches"], 5):
            while following < 10 and len(buffer) < 5:
                buffer, following = [*buffer, following], following + 1
            rows, buffer = [max(buffer), min(buffer)], sorted(buffer)[1:-1]
            position = {**position, "batches": number + 1, "next": following, "buffer": torch.tensor(buffer)}
            yield rows, position

    def state(self, position: dict[str, Any]) -> dict[str, Any]:
        return position

    def resumed(self, state: dict[str, Any]) -> dict[str, Any]:
        return state


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("before", range(6))
def test_a_plans_buffer_is_part_of_the_state(before: int, workers: int) -> None:
    def loader() -> Loader:
        return Loader(Numbers(10), Buffered(), None, 0, workers)

    whole = taken(loader(), 8)
    left, resumed = loader(), loader()
    assert taken(left, before) == whole[:before]
    resumed.load_state_dict(left.state_dict())
    assert taken(resumed, 8 - before) == whole[before:]
