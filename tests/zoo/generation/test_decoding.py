"""The loop: one token at a time, with a cache."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation import Cache, Decoding, Model, Row, Sampler, Steps, rows_of
from zoo.generation import decode as decode_rows
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
        cache.layer(0).update(ids[:, None, :, None].float(), ids[:, None, :, None].float())
        return torch.nn.functional.one_hot((ids + 1) % VOCAB, VOCAB).float()


def steps_of(step: Any, rows: list[Row], decoding: Decoding) -> Steps:
    return decode_rows(Model(step, lambda hidden: hidden, CPU), rows, decoding)


def decoding(**choices: Any) -> Decoding:
    return Decoding(**{"max_new_tokens": 4, "sampler": Sampler(), **choices})


def decode(step: Any, prompts: list[list[int]], decoding: Decoding) -> list[list[int]]:
    rows = rows_of(prompts, seed=decoding.seed)
    written: list[list[int]] = [[] for _ in rows]
    for tokens in steps_of(step, rows, decoding):
        for index, new in tokens.items():
            written[index] += new
    assert written == [row.new for row in rows]
    return written


def test_each_token_is_fed_once() -> None:
    step = Counting()
    assert decode(step, [[3, 4, 5]], decoding()) == [[6, 7, 8, 9]]
    assert step.fed == [[[3, 4, 5]], [[6]], [[7]], [[8]]]


def test_shorter_prompts_are_padded_on_the_left_and_the_padding_is_hidden() -> None:
    step = Counting()
    assert decode(step, [[3, 4, 5], [20]], decoding(max_new_tokens=2)) == [[6, 7], [21, 22]]
    assert step.fed == [[[3, 4, 5], [0, 0, 20]], [[6], [21]]]
    hidden = [mask.documents_BS for mask in step.masks]
    assert [real.int().tolist() for real in hidden if real is not None] == [
        [[1, 1, 1], [0, 0, 1]],
        [[1, 1, 1, 1], [0, 0, 1, 1]],
    ]


def test_prompts_of_one_length_need_no_mask() -> None:
    step = Counting()
    decode(step, [[3, 4], [20, 21]], decoding())
    assert {mask.documents_BS for mask in step.masks} == {None}


def test_a_row_ends_with_its_end_token_and_the_others_go_on() -> None:
    rows = decode(Counting(), [[3], [5], [30]], decoding(eos_token_ids=frozenset({5, 31})))
    assert rows == [[4, 5], [6, 7, 8, 9], [31]]


def test_ended_rows_are_dropped_once_they_are_a_quarter() -> None:
    step = Counting()
    rows = decode(
        step, [[1], [2], [3], [4], [5]], decoding(eos_token_ids=frozenset({3, 8}), max_new_tokens=5)
    )
    assert rows == [[2, 3], [3], [4, 5, 6, 7, 8], [5, 6, 7, 8], [6, 7, 8]]
    assert [len(fed) for fed in step.fed] == [5, 5, 3, 2, 1]


def test_the_loop_ends_when_every_row_has() -> None:
    step = Counting()
    assert decode(step, [[3], [4]], decoding(eos_token_ids=frozenset({5}))) == [[4, 5], [5]]
    assert len(step.fed) == 2


def test_a_row_may_stop_for_a_reason_of_its_own() -> None:
    asked: list[tuple[int, list[int]]] = []

    def stop(row: int, new: list[int]) -> bool:
        asked.append((row, list(new)))
        return row == 0 and len(new) == 2

    assert decode(Counting(), [[3], [20]], decoding(should_stop=stop, max_new_tokens=3)) == [
        [4, 5],
        [21, 22, 23],
    ]
    assert asked == [(0, [4]), (1, [21]), (0, [4, 5]), (1, [21, 22]), (1, [21, 22, 23])]


def test_steps_are_made_as_they_are_asked_for() -> None:
    step = Counting()
    steps = steps_of(step, rows_of([[3], [20]]), decoding(eos_token_ids=frozenset({4})))
    assert not step.fed
    assert next(steps) == {0: [4], 1: [21]}
    assert len(step.fed) == 1
    assert list(steps) == [{1: [22]}, {1: [23]}, {1: [24]}]


def test_gradients_are_off_within_a_step_and_as_they_were_between_steps() -> None:
    inner: list[bool] = []

    def step(ids: Tensor, mask: Mask, cache: Cache) -> Tensor:
        inner.append(torch.is_grad_enabled())
        cache.layer(0).update(*[ids[:, None, :, None].float()] * 2)
        return torch.zeros(1, 1, VOCAB)

    for _ in steps_of(step, rows_of([[3]]), decoding()):
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
    assert decode(Counting(), [[2, 3], [20]], chosen) == [[5, 7], [22, 24]]
    assert seen == [[(0, [2, 3], [], 0), (1, [20], [], 0)], [(0, [2, 3], [5], 1), (1, [20], [22], 1)]]


def test_a_row_of_its_own_start_keeps_its_prompt() -> None:
    (row,) = rows_of([[7, 8]], start=[1])
    assert (row.prompt, row.ids, row.new) == ([7, 8], [1], [])
    list(steps_of(Counting(), [row], decoding(max_new_tokens=2)))
    assert (row.prompt, row.ids, row.new) == ([7, 8], [1, 2, 3], [2, 3])


def test_no_prompts_give_no_rows() -> None:
    assert decode(Counting(), [], decoding()) == []


@pytest.mark.parametrize("number", [0, -1])
def test_no_new_tokens_are_refused(number: int) -> None:
    with pytest.raises(GenerationError) as caught:
        decoding(max_new_tokens=number)
    assert str(caught.value) == f"`max_new_tokens` must be at least 1, got {number}"


def test_no_row_at_once_is_refused() -> None:
    with pytest.raises(GenerationError) as caught:
        decoding(num_rows=0)
    assert str(caught.value) == "`num_rows` must be at least 1, got 0"
