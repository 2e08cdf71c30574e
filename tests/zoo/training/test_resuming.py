"""Runs that are killed end as if nobody had killed them."""

import itertools
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "resuming.py"

CHOICES: dict[str, list[Any]] = {
    "kind": ["step", "batch", "validation", "saving", "epoch"],
    "workers": [0, 2],
    "precision": ["32-true", "bf16-mixed"],
    "processes": [1, 2],
    "accumulate": [1, 3],
    "save_every": [1, 2, None],
    "val_check_interval": [1.0, 0.4],
    "in_steps": [False, True],
}


def differences(*scenarios: dict[str, Any]) -> list[list[str]]:
    """How each scenario's resumed run ends differently from an uninterrupted one."""
    done = subprocess.run(
        [sys.executable, SCRIPT],
        input=json.dumps(scenarios),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    if any(found):
        print(done.stderr[-4000:])
    return found


def pairwise(count: int, seed: int) -> list[dict[str, Any]]:
    """So many random choices, which cover as many pairs of choices as they can."""
    draw = random.Random(seed)
    seen: set[Any] = set()
    chosen = []
    for _ in range(count):
        options = [{name: draw.choice(values) for name, values in CHOICES.items()} for _ in range(200)]
        best = max(options, key=lambda option: len(pairs(option) - seen))
        seen |= pairs(best)
        chosen.append(best)
    return chosen


def pairs(choice: dict[str, Any]) -> set[Any]:
    return set(itertools.combinations(sorted((name, repr(value)) for name, value in choice.items()), 2))


def scenario_of(choice: dict[str, Any], seed: int) -> dict[str, Any]:
    """The choice as a scenario, killed at a random moment of its two epochs, or one and a half."""
    batches = 53 // (4 * choice["processes"])
    steps = math.ceil(batches / choice["accumulate"])
    validations = 3 * (batches // max(1, int(batches * choice["val_check_interval"])))
    most = {
        "step": 3 * steps // 2,
        "batch": 3 * batches // 2,
        "validation": validations + 2,
        "saving": 2,
        "epoch": 1,
    }
    kind, in_steps = choice["kind"], choice["in_steps"]
    number = random.Random(seed).randint(3 if kind == "validation" else 1, most[kind])
    settings = {name: value for name, value in choice.items() if name not in ("kind", "in_steps")}
    return {**settings, "kill": [kind, number], "max_steps": 3 * steps // 2 + 1 if in_steps else -1}


def test_three_random_kills_change_nothing() -> None:
    chosen = [
        {"kill": ["batch", 8], "accumulate": 3, "workers": 2, "precision": "bf16-mixed", "bad": [4, 9, 30]},
        {"kill": ["validation", 7], "val_check_interval": 0.4, "save_every": None},
        {"kill": ["step", 8], "processes": 2, "max_steps": 10, "bad": [4, 9, 30, 31, 32]},
    ]
    assert differences(*chosen) == [[], [], []]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_twenty_random_kills_change_nothing(number: int) -> None:
    scenario = scenario_of(pairwise(20, seed=1)[number], number)
    assert differences(scenario) == [[]], scenario


def test_the_twenty_cover_every_pair_of_choices() -> None:
    names = itertools.combinations(CHOICES, 2)
    all_pairs = sum(len(CHOICES[one]) * len(CHOICES[other]) for one, other in names)
    assert len(set().union(*map(pairs, pairwise(20, seed=1)))) == all_pairs


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        {"kill": ["batch", 14], "validates": False},  # where an epoch ended
        {"kill": ["batch", 14], "validates": False, "max_steps": 30},
        {"kill": ["batch", 14], "max_steps": 30, "val_check_interval": 0.4},
        {"kill": ["batch", 14, "batch", 2, "batch", 5], "max_steps": 30, "val_check_interval": 0.4},
        {"kill": ["batch", 8], "limit": 0.5},
        {"kill": ["batch", 7], "limit": 0.5, "validates": False},
        {"kill": ["batch", 20], "is_mixture": True},
        {"kill": ["batch", 9], "is_mixture": True, "limit": 0.3, "workers": 2},
        {"kill": ["batch", 9, "validation", 2], "is_sharded": True, "processes": 2, "workers": 2},
        {"kill": ["step", 4], "is_sharded": True, "processes": 2, "precision": "bf16-mixed", "accumulate": 3},
        {"kill": ["asked at validation", 4], "save_every": None},
        {"kill": ["asked at step", 5], "save_every": None, "val_check_interval": 0.4, "max_steps": 20},
        {"kill": ["asked at batch", 7], "save_every": None, "accumulate": 3, "processes": 2},
    ],
    ids=str,
)
def test_kills_where_lightning_alone_loses_something_change_nothing(scenario: dict[str, Any]) -> None:
    assert differences(scenario) == [[]]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after", "batch"), [(2, 1, 4), (1, 2, 6), (1, 2, 7)])
def test_on_more_or_fewer_processes_each_row_is_trained_on_once(before: int, after: int, batch: int) -> None:
    scenario = {"kill": ["batch", batch], "processes": before, "resumed_processes": after}
    assert differences(scenario) == [[]]
