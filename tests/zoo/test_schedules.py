"""The learning rate over a run."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import SpecError
from zoo.schedules import Constant, LinearWarmup, Noam, WarmupCosine
from zoo.specs import from_plain

shares = st.floats(0, 1)
warming = pytest.mark.parametrize("kind", [LinearWarmup, WarmupCosine])


@warming
def test_the_rate_rises_in_a_straight_line_and_ends_where_asked(kind: Any) -> None:
    schedule = kind(warmup_fraction=0.2, final_fraction=0.1)
    assert [schedule.factor(progress) for progress in (0.0, 0.05, 0.1, 0.2)] == pytest.approx(
        [0.0, 0.25, 0.5, 1.0]
    )
    assert schedule.factor(1.0) == pytest.approx(0.1)


def test_the_cosine_and_the_line_are_those_of_the_papers() -> None:
    for progress in (0.25, 0.4, 0.7, 0.95):
        gone = (progress - 0.25) / 0.75
        cosine = WarmupCosine(warmup_fraction=0.25).factor(progress)
        assert cosine == pytest.approx((1 + math.cos(math.pi * gone)) / 2)
        assert LinearWarmup(warmup_fraction=0.25).factor(progress) == pytest.approx(1 - gone)


@warming
@settings(deadline=None, max_examples=100, derandomize=True)
@given(warmup=shares, final=shares, one=shares, other=shares)
def test_the_rate_stays_between_zero_and_one_and_never_rises_again(
    kind: Any, warmup: float, final: float, one: float, other: float
) -> None:
    schedule = kind(warmup_fraction=warmup, final_fraction=final)
    early, late = sorted((one, other))
    rates = schedule.factor(early), schedule.factor(late)
    assert all(0 <= rate <= 1 for rate in rates)
    if late < warmup:
        assert rates[0] <= rates[1]
    if early >= warmup:
        assert rates[0] >= rates[1] - 1e-9
        assert rates[1] >= final - 1e-9


@warming
def test_extreme_warmups_have_a_rate_everywhere(kind: Any) -> None:
    assert kind(warmup_fraction=0.0).factor(0.0) == 1
    assert kind(warmup_fraction=1.0).factor(0.5) == 0.5
    assert kind(warmup_fraction=1.0).factor(1.0) == 1
    assert kind(final_fraction=1.0).factor(1.0) == 1
    assert kind().factor(1.01) == pytest.approx(0)  # a step more than was foreseen


def test_a_constant_rate_is_constant() -> None:
    assert {Constant().factor(progress) for progress in (0.0, 0.3, 1.0)} == {1.0}


@warming
@pytest.mark.parametrize("name", ["warmup_fraction", "final_fraction"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_shares_beyond_the_whole_are_refused(kind: Any, name: str, value: float) -> None:
    with pytest.raises(SpecError) as caught:
        kind(**{name: value})
    assert str(caught.value) == f"`{name}` must lie in [0, 1], got {value}\n  at    {name}"


@pytest.mark.parametrize("schedule", [Constant(), LinearWarmup(warmup_fraction=0.3), WarmupCosine()])
def test_a_schedule_goes_round_as_plain_values(schedule: Any) -> None:
    plain = schedule.to_plain()
    assert plain["class_path"] == f"zoo.schedules.{type(schedule).__name__}"
    assert from_plain(plain) == schedule


def test_noam_is_the_papers() -> None:
    steps, warmup, width = 100_000, 4000, 512
    highest = (width * warmup) ** -0.5
    for step in (1, 100, 4000, 4001, 50_000, 100_000):
        paper = width**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert highest * Noam(warmup_fraction=warmup / steps).factor(step / steps) == pytest.approx(paper)


def test_noam_needs_a_rise() -> None:
    with pytest.raises(SpecError) as caught:
        Noam(warmup_fraction=0)
    assert str(caught.value) == "`warmup_fraction` must lie in (0, 1], got 0\n  at    warmup_fraction"
