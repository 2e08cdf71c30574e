"""Plans that gather: bounds hold, nothing comes twice, and they are taken up again anywhere."""

import json
from collections.abc import Callable
from functools import partial
from itertools import chain, islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.gathering import Gathered, Gatherer, SortedBatches
from zoo.data.packing import OpenRows
from zoo.errors import CheckpointError

KINDS: dict[str, Callable[[], Gatherer]] = {
    "sorted": partial(SortedBatches, 64, at_once=20),
    "packed": partial(OpenRows, 32, 4),
}
sizes = st.lists(st.integers(1, 32), min_size=1, max_size=120)
kinds = st.sampled_from(sorted(KINDS))


def plan_of(
    kind: str, sizes: list[int], *, rank: int = 0, of: int = 1, groups: int = 1, seed: int = 0
) -> Gathered:
    return Gathered(sizes, KINDS[kind], groups, seed, rank, of)


def epoch(plan: Gathered, number: int = 0) -> list[list[int]]:
    return [items for items, _ in plan.batches(plan.start(number))]


@settings(deadline=None, derandomize=True)
@given(sizes=sizes, kind=kinds, groups=st.integers(1, 3), number=st.integers(0, 3))
def test_every_epoch_has_as_many_batches_and_each_item_at_most_once(
    sizes: list[int], kind: str, groups: int, number: int
) -> None:
    plan = plan_of(kind, sizes, groups=groups)
    batches = epoch(plan, number)
    assert len(batches) == len(plan)
    items = list(chain(*batches))
    assert len(set(items)) == len(items)
    assert set(items) <= set(range(len(sizes)))


@settings(deadline=None, derandomize=True)
@given(sizes=sizes, number=st.integers(0, 3))
def test_a_batch_padded_to_its_longest_holds_no_more_tokens_than_asked(sizes: list[int], number: int) -> None:
    for batch in epoch(plan_of("sorted", sizes), number):
        assert max(sizes[item] for item in batch) * len(batch) <= 64
    if number == 0:
        assert sorted(chain(*epoch(plan_of("sorted", sizes)))) == list(range(len(sizes)))


@settings(deadline=None, derandomize=True)
@given(sizes=sizes, kind=kinds, of=st.integers(1, 3), groups=st.integers(1, 2))
def test_processes_take_turns_and_share_nothing(sizes: list[int], kind: str, of: int, groups: int) -> None:
    shares = [epoch(plan_of(kind, sizes, rank=rank, of=of, groups=groups)) for rank in range(of)]
    assert len({len(share) for share in shares}) == 1
    items = list(chain(*chain(*shares)))
    assert len(set(items)) == len(items)
    alone = epoch(plan_of(kind, sizes, groups=groups * of))
    assert [list(chain(*step)) for step in zip(*shares, strict=True)] == alone


@settings(deadline=None, derandomize=True)
@given(sizes=sizes, kind=kinds, cut=st.integers(0, 40), groups=st.integers(1, 2))
def test_a_plan_goes_on_from_any_position(sizes: list[int], kind: str, cut: int, groups: int) -> None:
    plan = plan_of(kind, sizes, groups=groups)
    whole = epoch(plan)
    positions = [plan.start(0), *(following for _, following in plan.batches(plan.start(0)))]
    position = positions[min(cut, len(whole))]  # kept while the plan went on
    state = json.loads(json.dumps(plan.state(position)))
    again = plan_of(kind, sizes, groups=groups)
    assert [items for items, _ in again.batches(again.resumed(state))] == whole[cut:]


@settings(deadline=None, derandomize=True)
@given(sizes=sizes, kind=kinds, cut=st.integers(0, 20))
def test_on_another_number_of_processes_nothing_comes_twice(sizes: list[int], kind: str, cut: int) -> None:
    before = plan_of(kind, sizes, of=2)
    position, seen = before.start(0), []
    for rank in range(2):
        plan = plan_of(kind, sizes, rank=rank, of=2)
        for items, following in islice(plan.batches(plan.start(0)), cut):
            position = following
            seen += items
    after = plan_of(kind, sizes)
    rest = list(chain(*(items for items, _ in after.batches(after.resumed(before.state(position))))))
    assert not set(rest) & set(seen)
    assert len(set(rest)) == len(rest)


def test_epochs_differ_and_follow_from_the_seed() -> None:
    sizes = [1 + number % 30 for number in range(100)]
    for kind in KINDS:
        assert epoch(plan_of(kind, sizes)) == epoch(plan_of(kind, sizes))
        assert epoch(plan_of(kind, sizes)) != epoch(plan_of(kind, sizes), 1)
        assert epoch(plan_of(kind, sizes)) != epoch(plan_of(kind, sizes, seed=1))


def test_batches_of_like_length_hold_little_padding_and_come_in_no_order_of_length() -> None:
    sizes = [1 + (number * 7919) % 32 for number in range(4000)]
    batches = epoch(Gathered(sizes, partial(SortedBatches, 512), 1, seed=0))
    padded = sum(max(sizes[item] for item in batch) * len(batch) for batch in batches)
    assert sum(sizes) / padded > 0.97
    longest = [max(sizes[item] for item in batch) for batch in batches]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


@pytest.mark.parametrize(("name", "value"), [("num_rows", 11), ("seed", 1)])
def test_other_data_is_refused(name: str, value: int) -> None:
    plan = plan_of("packed", [4] * 10)
    state: dict[str, Any] = {**plan.state(plan.start(0)), name: value}
    with pytest.raises(
        CheckpointError, match=f"^the checkpoint was made with data of {name} {value}, now it is"
    ):
        plan.resumed(state)
