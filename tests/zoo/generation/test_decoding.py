"""The loop: one token at a time, with a cache."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation import Cache, Decoding, LayerCache, Row, Sampler, rows_of
from zoo.generation import decode as steps_of
from zoo.layers import Mask

CPU = torch.device("cpu")
VOCAB = 50


class Counting:
    """Always wants the token after the last one; notes what it was fed."""

    def __init__(self) -> None:
        self.fed: list[list[list[int]]] = []
        self.masks: list[Mask] = []

    def __call__(self, ids: Tensor, mask: Mask, cache: Cache) -> Tensor:
        self.fed.append(ids.tolist())
        self.masks.append(mask)
        return torch.nn.functional.one_hot((ids[:, -1] + 1) % VOCAB, VOCAB).float()


def decoding(**choices: Any) -> Decoding:
    return Decoding(**{"max_new_tokens": 4, "sampler": Sampler(), **choices})


def decode(step: Any, prompts: list[list[int]], decoding: Decoding, device: torch.device) -> list[list[int]]:
    rows = rows_of(prompts, seed=decoding.seed)
    written: list[list[int]] = [[] for _ in rows]
    for tokens in steps_of(step, rows, decoding, device):
        for index, new in tokens.items():
            written[index] += new
    assert written == [row.new for row in rows]
    return written


def test_each_token_is_fed_once() -> None:
    step = Counting()
    assert decode(step, [[3, 4, 5]], decoding(), CPU) == [[6, 7, 8, 9]]
    assert step.fed == [[[3, 4, 5]], [[6]], [[7]], [[8]]]


def test_shorter_prompts_are_padded_on_the_left_and_the_padding_is_hidden() -> None:
    step = Counting()
    assert decode(step, [[3, 4, 5], [20]], decoding(max_new_tokens=2), CPU) == [[6, 7], [21, 22]]
    assert step.fed == [[[3, 4, 5], [0, 0, 20]], [[6], [21]]]
    hidden = [mask.documents_BS for mask in step.masks]
    assert [real.int().tolist() for real in hidden if real is not None] == [
        [[1, 1, 1], [0, 0, 1]],
        [[1, 1, 1, 1], [0, 0, 1, 1]],
    ]


def test_prompts_of_one_length_need_no_mask() -> None:
    step = Counting()
    decode(step, [[3, 4], [20, 21]], decoding(), CPU)
    assert {mask.documents_BS for mask in step.masks} == {None}


def test_a_row_ends_with_its_end_token_and_the_others_go_on() -> None:
    rows = decode(Counting(), [[3], [5], [30]], decoding(eos_token_ids=frozenset({5, 31})), CPU)
    assert rows == [[4, 5], [6, 7, 8, 9], [31]]


def test_the_loop_ends_when_every_row_has() -> None:
    step = Counting()
    assert decode(step, [[3], [4]], decoding(eos_token_ids=frozenset({5})), CPU) == [[4, 5], [5]]
    assert len(step.fed) == 2


def test_a_row_may_stop_for_a_reason_of_its_own() -> None:
    asked: list[tuple[int, list[int]]] = []

    def stop(row: int, new: list[int]) -> bool:
        asked.append((row, list(new)))
        return row == 0 and len(new) == 2

    assert decode(Counting(), [[3], [20]], decoding(should_stop=stop, max_new_tokens=3), CPU) == [
        [4, 5],
        [21, 22, 23],
    ]
    assert asked == [(0, [4]), (1, [21]), (0, [4, 5]), (1, [21, 22]), (1, [21, 22, 23])]


def test_steps_are_made_as_they_are_asked_for() -> None:
    step = Counting()
    steps = steps_of(step, rows_of([[3], [20]]), decoding(eos_token_ids=frozenset({4})), CPU)
    assert not step.fed
    assert next(steps) == {0: [4], 1: [21]}
    assert len(step.fed) == 1
    assert list(steps) == [{1: [22]}, {1: [23]}, {1: [24]}]


def test_gradients_are_off_within_a_step_and_as_they_were_between_steps() -> None:
    inner: list[bool] = []

    def step(ids: Tensor, mask: Mask, cache: Cache) -> Tensor:
        inner.append(torch.is_grad_enabled())
        return torch.zeros(1, VOCAB)

    for _ in steps_of(step, rows_of([[3]]), decoding(), CPU):
        assert torch.is_grad_enabled()
    assert not any(inner)


def test_processors_change_the_logits_in_turn_and_see_what_was_written() -> None:
    seen: list[list[tuple[int, list[int], list[int], int]]] = []

    def forbid(rows: Sequence[Row], logits: Tensor) -> Tensor:
        seen.append([(row.index, row.ids[: row.num_given], row.new, row.num_new) for row in rows])
        return logits.index_fill(1, torch.tensor([5]), -torch.inf)

    def shift(rows: Sequence[Row], logits: Tensor) -> Tensor:
        return logits.roll(1, -1)

    chosen = decoding(processors=[forbid, shift], max_new_tokens=2)
    assert decode(Counting(), [[2, 3], [20]], chosen, CPU) == [[5, 7], [22, 24]]
    assert seen == [[(0, [2, 3], [], 0), (1, [20], [], 0)], [(0, [2, 3], [5], 1), (1, [20], [22], 1)]]


def test_a_row_of_its_own_start_keeps_its_prompt() -> None:
    (row,) = rows_of([[7, 8]], start=[1])
    assert (row.prompt, row.ids, row.new) == ([7, 8], [1], [])
    list(steps_of(Counting(), [row], decoding(max_new_tokens=2), CPU))
    assert (row.prompt, row.ids, row.new) == ([7, 8], [1, 2, 3], [2, 3])


def test_no_prompts_give_no_rows() -> None:
    assert decode(Counting(), [], decoding(), CPU) == []


@pytest.mark.parametrize("number", [0, -1])
def test_no_new_tokens_are_refused(number: int) -> None:
    with pytest.raises(GenerationError) as caught:
        decoding(max_new_tokens=number)
    assert str(caught.value) == f"`max_new_tokens` must be at least 1, got {number}"


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
