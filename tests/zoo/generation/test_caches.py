"""What is remembered, and that rows may be dropped, moved, replaced and cut back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from zoo.generation import Cache, LayerCache
from zoo.layers import Attention, Mask, initialize


def test_a_cache_keeps_every_token_in_order() -> None:
    cache = LayerCache(5)
    keys, values = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    for start, end in ((0, 2), (2, 3), (3, 5)):
        so_far = cache.update(keys[:, :, start:end], values[:, :, start:end])
        assert torch.equal(so_far[0], keys[:, :, :end])
        assert torch.equal(so_far[1], values[:, :, :end])
        assert cache.length == end


def test_a_cache_takes_the_dtype_of_its_keys() -> None:
    keys = torch.ones(1, 1, 2, 4, dtype=torch.bfloat16)
    assert LayerCache(2).update(keys, keys)[0].dtype == torch.bfloat16


def test_a_full_cache_says_so() -> None:
    cache, keys = LayerCache(2), torch.ones(1, 1, 3, 4)
    with pytest.raises(AssertionError, match=r"^a cache of 2 tokens was asked to hold 3$"):
        cache.update(keys, keys)


def test_each_layer_has_a_part_of_its_own() -> None:
    cache, keys = Cache(4), torch.ones(1, 1, 3, 4)
    assert cache.length == 0
    cache.layer(0).update(keys, keys)
    cache.layer(1).update(keys[:, :, :2], keys[:, :, :2])
    assert cache.length == 2
    assert cache.layer(0).length == 3


HEADS, WIDTH = 2, 8


def layer() -> Attention:
    torch.manual_seed(0)
    attention = Attention(WIDTH, HEADS)
    initialize(attention, 0.5)
    return attention.eval().requires_grad_(False)


def hidden(batch: int, tokens: int) -> Tensor:
    return torch.randn(batch, tokens, WIDTH, generator=torch.Generator().manual_seed(tokens))


def read(cache: LayerCache, x_BTD: Tensor, pieces: list[int], reach: int | None, starts: list[int]) -> Tensor:
    """One layer's view of what is read piece by piece, in rows of which the first columns are padding."""
    attention, seen, end = layer(), [], cache.length
    for piece, x in zip(pieces, x_BTD.split(pieces, 1), strict=True):
        end += piece
        real = torch.arange(end) >= torch.tensor(starts)[:, None]
        mask = Mask(real if any(starts) else None).causal().within(reach)
        seen.append(attention(x, mask, None, cache))
    return torch.cat(seen, 1)


def whole(x_BTD: Tensor, reach: int | None) -> Tensor:
    """One layer's view without a cache."""
    found: Tensor = layer()(x_BTD, Mask().causal().within(reach))
    return found


reaches = st.sampled_from([None, 1, 2, 3, 5, 40])
pieces_of_text = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(pieces=pieces_of_text, reach=reaches, start=st.integers(0, 3))
def test_a_window_keeps_what_is_seen_and_little_more(
    pieces: list[int], reach: int | None, start: int
) -> None:
    total = sum(pieces)
    start = min(start, total - 1)
    cache, x = LayerCache(total + 20), hidden(2, total)
    seen = read(cache, x, pieces, reach, [0, start])
    assert_close(seen[0], whole(x, reach)[0], rtol=1e-5, atol=1e-5)
    assert_close(seen[1, start:], whole(x[1:, start:], reach)[0], rtol=1e-5, atol=1e-5)
    assert cache.length == total
    assert cache._held is not None
    held = cache._held[0].shape[2]
    assert held == total + 20 if reach is None else held <= 2 * reach


@settings(deadline=None, max_examples=40, derandomize=True)
@given(pieces=pieces_of_text, reach=reaches, back=st.integers(0, 4), more=st.integers(1, 6))
def test_tokens_that_are_taken_back_leave_no_trace(
    pieces: list[int], reach: int | None, back: int, more: int
) -> None:
    total = sum(pieces)
    back = min(back, pieces[-1])
    cache, x = LayerCache(100 + 20, spare=4), hidden(1, total + more)
    wrong = x[:, :total].clone()
    wrong[:, total - back :] += 1
    read(cache, wrong, pieces, reach, [0])
    cache.truncate(total - back)
    right = x[:, total - back :]
    seen = read(cache, right, [1] * right.shape[1], reach, [0])
    assert_close(seen, whole(x, reach)[:, total - back :], rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(pieces=pieces_of_text, reach=reaches, order=st.permutations([0, 1, 2]), kept=st.integers(1, 3))
def test_rows_trade_places_and_are_dropped(
    pieces: list[int], reach: int | None, order: list[int], kept: int
) -> None:
    rows, total = torch.tensor(order[:kept]), sum(pieces)
    cache, x = LayerCache(total + 3), hidden(3, total + 3)
    read(cache, x[:, :total], pieces, reach, [0] * 3)
    cache.select(rows)
    seen = read(cache, x[rows, total:], [1, 2], reach, [0] * kept)
    assert_close(seen, whole(x, reach)[rows, total:], rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(reach=reaches, shared=st.integers(1, 6), more=st.integers(1, 6))
def test_what_rows_share_need_not_be_moved(reach: int | None, shared: int, more: int) -> None:
    cache, x = LayerCache(shared + more + 1), hidden(2, shared + more + 1)
    x[1, :shared] = x[0, :shared]
    read(cache, x[:, :-1], [shared, more], reach, [0, 0])
    cache.select(torch.tensor([1, 0]), since=shared)
    seen = read(cache, x[[1, 0], -1:], [1], reach, [0, 0])
    assert_close(seen, whole(x, reach)[[1, 0], -1:], rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(first=st.integers(1, 12), reach=reaches, new=st.integers(1, 15), more=st.integers(1, 9))
def test_a_row_is_replaced_by_one_that_was_read_elsewhere(
    first: int, reach: int | None, new: int, more: int
) -> None:
    old, fresh = hidden(2, first + more), hidden(1, 40)[:, : new + more]
    cache, other = LayerCache(60), LayerCache(new)
    read(cache, old[:, :first], [first], reach, [0, 0])
    read(other, fresh[:, :new], [new], reach, [0])
    later = max(0, new - first)
    cache.move(later)
    cache.put(torch.tensor([1]), other)
    both = torch.cat((old[:1, first:], fresh[:, new:]))
    seen = read(cache, both, [1] * more, reach, [later, max(0, first - new)])
    assert_close(seen[0], whole(old, reach)[0, first:], rtol=1e-5, atol=1e-5)
    assert_close(seen[1], whole(fresh, reach)[0, new:], rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(first=st.integers(2, 12), reach=reaches, gone=st.integers(1, 11), more=st.integers(1, 9))
def test_first_columns_that_are_padding_are_forgotten(
    first: int, reach: int | None, gone: int, more: int
) -> None:
    gone = min(gone, first - 1)
    x = hidden(1, first + more)
    cache = LayerCache(first + more)
    read(cache, x[:, :first], [first], reach, [gone])
    cache.move(-gone)
    assert cache.length == first - gone
    seen = read(cache, x[:, first:], [1] * more, reach, [0])
    assert_close(seen, whole(x[:, gone:], reach)[:, first - gone :], rtol=1e-5, atol=1e-5)
