"""Figures are logged when loggers write, and otherwise seldom."""

import itertools

import pytest

from zoo.training import pace
from zoo.training.pace import Pace


def due(
    clock: "itertools.count[float]", monkeypatch: pytest.MonkeyPatch, steps: range, every: int
) -> list[int]:
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(clock))
    mine = Pace()
    return [step for step in steps if mine.is_due("loss", step, every)]


def test_quick_steps_are_logged_first_and_when_loggers_write(monkeypatch: pytest.MonkeyPatch) -> None:
    assert due(itertools.count(0, 0.01), monkeypatch, range(1, 41), 10) == [1, 10, 20, 30, 40]
    assert due(itertools.count(0, 0.01), monkeypatch, range(1, 4), 1) == [1, 2, 3]
    assert due(itertools.count(0, 0.01), monkeypatch, range(1, 4), 0) == [1, 2, 3]


def test_slow_steps_are_all_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert due(itertools.count(0, 1.5), monkeypatch, range(1, 6), 10) == [1, 2, 3, 4, 5]


def test_a_head_whose_turn_never_falls_on_a_logged_step_is_logged_all_the_same() -> None:
    mine = Pace()
    logged = [step for step in range(1, 42, 2) if mine.is_due("other", step, 10)]
    assert logged == [1, 11, 21, 31, 41]
