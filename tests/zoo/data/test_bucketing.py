"""Batches of rows of like length."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.bucketing import ByLength


def drawn(lengths: list[int], batch_size: int, seed: int = 0) -> list[int]:
    return list(ByLength(lengths, batch_size, torch.Generator().manual_seed(seed)))


@given(st.lists(st.integers(0, 500), max_size=200), st.integers(1, 9))
def test_each_row_comes_once_and_only_whole_batches_come(lengths: list[int], batch_size: int) -> None:
    rows = drawn(lengths, batch_size)
    assert len(rows) == len(lengths) // batch_size * batch_size
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(range(len(lengths)))


def test_rows_of_a_batch_are_of_like_length() -> None:
    lengths = torch.randint(1000, (256,)).tolist()
    rows = drawn(lengths, 8)
    batches = [[lengths[row] for row in rows[start : start + 8]] for start in range(0, 256, 8)]
    assert max(max(batch) - min(batch) for batch in batches) < 200
    assert [max(batch) for batch in batches] != sorted(max(batch) for batch in batches)


def test_the_order_is_the_seeds_and_changes_with_each_epoch() -> None:
    lengths = list(range(64))
    assert drawn(lengths, 4) == drawn(lengths, 4)
    assert drawn(lengths, 4) != drawn(lengths, 4, seed=1)
    order = ByLength(lengths, 4, torch.Generator().manual_seed(0))
    assert list(order) != list(order)
