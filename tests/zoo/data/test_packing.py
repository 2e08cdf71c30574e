"""Packing: nothing is lost, little is wasted, little is remembered."""

import itertools
import random
import time
import tracemalloc
from collections.abc import Iterable, Iterator

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.packing import NUM_OPEN, OpenRows, in_rows, laid_out, without_first
from zoo.layers import IGNORED


def packed(sizes: Iterable[int], capacity: int, num_open: int = NUM_OPEN) -> Iterator[list[int]]:
    """Rows of items, by their numbers, as their sizes arrive."""
    rows = OpenRows(capacity, num_open)
    for item, size in enumerate(sizes):
        yield from rows.add(item, size)
    yield from rows.rest()


sizes_and_capacity = st.integers(1, 40).flatmap(
    lambda capacity: st.tuples(st.lists(st.integers(1, capacity), max_size=60), st.just(capacity))
)


@settings(deadline=None, derandomize=True)
@given(given=sizes_and_capacity, num_open=st.integers(1, 8))
def test_every_item_stands_in_one_row_that_holds_it(given: tuple[list[int], int], num_open: int) -> None:
    sizes, capacity = given
    rows = list(packed(sizes, capacity, num_open))
    assert sorted(itertools.chain(*rows)) == list(range(len(sizes)))
    for row in rows:
        assert sum(sizes[item] for item in row) <= capacity


@settings(deadline=None, derandomize=True)
@given(given=sizes_and_capacity, cut=st.integers(0, 60), num_open=st.integers(1, 8))
def test_a_packer_that_is_taken_up_again_goes_on_as_it_would_have(
    given: tuple[list[int], int], cut: int, num_open: int
) -> None:
    sizes, capacity = given
    rows, again = OpenRows(capacity, num_open), OpenRows(capacity, num_open)
    for item, size in enumerate(sizes[:cut]):
        rows.add(item, size)
    again.restore(rows.state())
    for item, size in enumerate(sizes[cut:], cut):
        assert rows.add(item, size) == again.add(item, size)
    assert rows.rest() == again.rest()


def test_what_comes_next_goes_where_it_leaves_the_least_room() -> None:
    rows = OpenRows(10)
    assert rows.add(0, 6) == []
    assert rows.add(1, 7) == []
    assert rows.add(2, 3) == [[1, 2]]
    assert rows.add(3, 4) == [[0, 3]]
    assert rows.rest() == []


def test_real_lengths_are_packed_with_little_padding() -> None:
    draw = random.Random(0)
    sizes = [min(512, int(draw.lognormvariate(4.5, 0.8)) + 1) for _ in range(20_000)]
    rows = list(packed(sizes, 512))
    assert sum(sizes) / (512 * len(rows)) > 0.98


def test_a_million_documents_take_constant_memory_and_start_at_once() -> None:
    asked = 0

    def sizes() -> Iterator[int]:
        nonlocal asked
        draw = random.Random(0)
        for _ in range(1_000_000):
            asked += 1
            yield draw.randint(1, 400)

    rows = packed(sizes(), 512)
    started = time.perf_counter()
    next(rows)
    assert time.perf_counter() - started < 0.1
    assert asked < 200
    next(itertools.islice(rows, 10_000, None))
    tracemalloc.start()
    try:
        for _ in itertools.islice(rows, 50_000):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@settings(deadline=None, derandomize=True)
@given(given=sizes_and_capacity, num_open=st.integers(1, 8))
def test_laying_out_a_plan_in_its_order_takes_no_more_rows_than_planned(
    given: tuple[list[int], int], num_open: int
) -> None:
    sizes, capacity = given
    planned = list(packed(sizes, capacity, num_open))
    order = list(itertools.chain(*planned))
    rows = in_rows([[sizes[item]] for item in order], [capacity])
    assert len(rows) <= len(planned)
    assert list(itertools.chain(*rows)) == list(range(len(sizes)))
    assert all(sum(sizes[order[item]] for item in row) <= capacity for row in rows)


def test_a_row_holds_pairs_while_both_sides_fit() -> None:
    assert in_rows([(2, 3), (1, 1), (1, 1), (5, 1)], [5, 5]) == [[0, 1, 2], [3]]
    assert in_rows([(2, 3), (1, 3)], [5, 5]) == [[0], [1]]


def test_texts_are_laid_side_by_side_and_told_apart() -> None:
    ids, documents = laid_out([[5, 6], [7], [8, 9, 10]], [[0, 1], [2]], padding=0)
    assert ids.tolist() == [[5, 6, 7, 0, 0, 0, 0, 0], [8, 9, 10, 0, 0, 0, 0, 0]]
    assert documents.tolist() == [[1, 1, 2, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]]


def test_a_documents_first_token_is_foretold_by_none() -> None:
    ids, documents = torch.tensor([[5, 6, 7, 8, 0]]), torch.tensor([[1, 1, 2, 2, 0]])
    assert without_first(ids, documents).tolist() == [[IGNORED, 6, IGNORED, 8, IGNORED]]
