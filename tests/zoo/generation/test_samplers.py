"""From logits to the next token."""

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation import Row, Sampler, rows_of

logits = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12, unique=True)


def kept(sampler: Sampler, row: list[float]) -> set[int]:
    cut = sampler.cut(torch.tensor([row]))
    return set(cut[0].isfinite().nonzero().flatten().tolist())


def draws(
    sampler: Sampler, logits_BV: Tensor, times: int, seed: int | None = 0, rows: list[Row] | None = None
) -> list[list[int]]:
    rows = rows or rows_of([[index] for index in range(len(logits_BV))], seed=seed)
    return torch.stack([sampler(logits_BV, rows) for _ in range(times)], -1).tolist()  # type: ignore[no-any-return]


def test_temperature_zero_takes_the_likeliest_token() -> None:
    rows = torch.randn(20, 9)
    likeliest = rows.argmax(-1)[:, None].tolist()
    assert draws(Sampler(), rows, 1) == likeliest
    assert draws(Sampler(top_k=1, temperature=5.0), rows, 1) == likeliest
    assert draws(Sampler(top_p=1e-9, temperature=5.0), rows, 1) == likeliest


@settings(deadline=None, max_examples=100, derandomize=True)
@given(row=logits, top_k=st.integers(1, 15))
def test_top_k_keeps_the_k_likeliest(row: list[float], top_k: int) -> None:
    ordered = sorted(range(len(row)), key=row.__getitem__, reverse=True)
    assert kept(Sampler(top_k=top_k), row) == set(ordered[:top_k])


@settings(deadline=None, max_examples=150, derandomize=True)
@given(row=logits, top_p=st.floats(0.01, 1.0))
def test_top_p_keeps_the_fewest_tokens_that_hold_p(row: list[float], top_p: float) -> None:
    probabilities = torch.tensor(row, dtype=torch.float64).softmax(-1).tolist()
    found = kept(Sampler(top_p=top_p), row)
    likely = sorted(range(len(row)), key=row.__getitem__, reverse=True)
    assert found == set(likely[: len(found)])
    held = [probabilities[index] for index in likely[: len(found)]]
    assert sum(held) >= top_p - 1e-5
    assert sum(held[:-1]) < top_p + 1e-5


@settings(deadline=None, max_examples=60, derandomize=True)
@given(row=logits, top_k=st.integers(1, 6), top_p=st.floats(0.05, 0.95))
def test_top_p_counts_what_top_k_left(row: list[float], top_k: int, top_p: float) -> None:
    chosen = sorted(kept(Sampler(top_k=top_k), row))
    inner = kept(Sampler(top_p=top_p), [row[index] for index in chosen])
    assert kept(Sampler(top_k=top_k, top_p=top_p), row) == {chosen[index] for index in inner}


@settings(deadline=None, max_examples=60, derandomize=True)
@given(row=logits, min_p=st.floats(0.0, 1.0))
def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest(row: list[float], min_p: float) -> None:
    probabilities = torch.tensor(row, dtype=torch.float64).softmax(-1)
    sure = (probabilities > min_p * probabilities.max() * (1 + 1e-5)).nonzero().flatten().tolist()
    possible = (probabilities > min_p * probabilities.max() * (1 - 1e-5)).nonzero().flatten().tolist()
    assert set(sure) <= kept(Sampler(min_p=min_p), row) <= set(possible)
    assert row.index(max(row)) in kept(Sampler(min_p=min_p), row)


def theirs(sampler: Sampler, logits_BV: Tensor) -> Tensor:
    """transformers' processors in the order in which its `generate` calls them."""
    calls: list[transformers.LogitsProcessor] = [transformers.TemperatureLogitsWarper(sampler.temperature)]
    if sampler.top_k is not None:
        calls.append(transformers.TopKLogitsWarper(sampler.top_k))
    if sampler.top_p is not None:
        calls.append(transformers.TopPLogitsWarper(sampler.top_p))
    if sampler.min_p is not None:
        calls.append(transformers.MinPLogitsWarper(sampler.min_p))
    for call in calls:
        logits_BV = call(None, logits_BV)
    return logits_BV.softmax(-1)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    vocab_size=st.sampled_from([1, 2, 7, 300, 3000]),
    # From one that is nearly sure of a token to one where more than the first guess are needed.
    scale=st.sampled_from([0.01, 1.0, 9.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    temperature=st.floats(0.1, 3.0),
    top_k=st.none() | st.integers(1, 400),
    top_p=st.none() | st.floats(0.01, 0.999),
    min_p=st.none() | st.floats(0.0, 1.0),
)
def test_what_is_drawn_from_equals_what_transformers_draws_from(
    seed: int, vocab_size: int, scale: float, dtype: torch.dtype, **choices: Any
) -> None:
    sampler = Sampler(**choices)
    generator = torch.Generator().manual_seed(seed)
    # In bfloat16, many are equal, and which of those is cut depends on how they are sorted.
    logits_BV = (torch.randn(3, vocab_size, generator=generator) * scale).to(dtype).float()
    ours, expected = sampler.probabilities(logits_BV), theirs(sampler, logits_BV)
    if dtype == torch.bfloat16:
        ours, expected = ours.sort(-1).values, expected.sort(-1).values
    assert torch.equal(ours > 0, expected > 0)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(row=logits, seed=st.integers(0, 99), top_k=st.integers(1, 4))
def test_only_what_is_kept_is_ever_drawn(row: list[float], seed: int, top_k: int) -> None:
    sampler = Sampler(temperature=2.0, top_k=top_k)
    drawn = draws(sampler, torch.tensor([row]), 20, seed)
    assert set(drawn[0]) <= set(sampler.probabilities(torch.tensor([row]))[0].nonzero().flatten().tolist())


def test_draws_follow_the_softened_distribution() -> None:
    row, times = torch.tensor([2.0, 1.0, 0.0, -1.0]), 4000
    sampler = Sampler(temperature=1.5)
    counts = torch.bincount(torch.tensor(draws(sampler, row[None], times)[0]), minlength=4)
    torch.testing.assert_close(counts / times, (row / 1.5).softmax(-1), rtol=0, atol=0.03)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(seed=st.integers(0, 2**31), others=st.integers(0, 4))
def test_a_seed_makes_a_row_repeatable_whatever_else_is_in_the_batch(seed: int, others: int) -> None:
    row, sampler = torch.linspace(-1, 1, 11), Sampler(temperature=1.0)
    alone = draws(sampler, row[None], 12, rows=rows_of([[3, 4]], seed=seed))[0]
    for place in range(others + 1):
        batch = torch.randn(others + 1, 11)
        batch[place] = row
        prompts = [[5]] * (others + 1)
        prompts[place] = [3, 4]
        assert draws(sampler, batch, 12, rows=rows_of(prompts, seed=seed))[place] == alone


def test_one_prompt_given_twice_is_continued_in_two_ways_and_the_first_is_as_alone() -> None:
    logits, sampler = torch.zeros(3, 1000), Sampler(temperature=1.0)
    drawn = draws(sampler, logits, 8, rows=rows_of([[3], [3], [4]], seed=0))
    assert len({tuple(row) for row in drawn}) == 3
    assert draws(sampler, logits[:1], 8, rows=rows_of([[3]], seed=0)) == drawn[:1]


def test_another_seed_and_no_seed_draw_otherwise() -> None:
    rows, sampler = torch.zeros(1, 1000), Sampler(temperature=1.0)
    first = draws(sampler, rows, 8, seed=1)
    assert draws(sampler, rows, 8, seed=2) != first
    assert draws(sampler, rows, 8, seed=None) != draws(sampler, rows, 8, seed=None)


def test_what_cannot_be_drawn_is_not_drawn_by_the_least_and_the_largest_number() -> None:
    class Certain(Row):
        def draw(self) -> float:
            return float(self.prompt[0]) or 5e-324

    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]]).repeat(2, 1)
    assert Sampler(temperature=1.0)(logits, [Certain(0, [0]), Certain(1, [1])]).tolist() == [1, 3]


def test_draws_leave_torchs_own_generator_alone() -> None:
    before = torch.get_rng_state()
    draws(Sampler(temperature=1.0), torch.zeros(3, 5), 4)
    draws(Sampler(temperature=1.0), torch.zeros(3, 5), 4, seed=None)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-44, 1e-300, 1e9])
def test_extreme_temperatures_still_draw(temperature: float) -> None:
    rows = torch.tensor([[3.0, 40.0, -20.0], [1e4, -1e4, 0.0]])
    drawn = draws(Sampler(temperature=temperature), rows, 1)
    if temperature < 1:
        assert drawn == [[1], [0]]


def test_logits_in_bfloat16_are_drawn_from_in_float32() -> None:
    rows = torch.linspace(-1, 1, 300).bfloat16()[None]
    expected = draws(Sampler(temperature=1.0), rows.float(), 10)
    assert draws(Sampler(temperature=1.0), rows, 10) == expected


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"temperature": -0.1}, "`temperature` must not be negative, got -0.1"),
        ({"temperature": float("nan")}, "`temperature` must not be negative, got nan"),
        ({"top_k": 0}, "`top_k` must be at least 1, got 0"),
        ({"top_k": -3}, "`top_k` must be at least 1, got -3"),
        ({"top_p": 0.0}, "`top_p` must lie in (0, 1], got 0.0"),
        ({"top_p": 1.5}, "`top_p` must lie in (0, 1], got 1.5"),
        ({"min_p": -0.1}, "`min_p` must lie in [0, 1], got -0.1"),
        ({"min_p": 1.1}, "`min_p` must lie in [0, 1], got 1.1"),
    ],
)
def test_choices_that_cannot_be_followed_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(GenerationError) as caught:
        Sampler(**choices)
    assert str(caught.value) == message
