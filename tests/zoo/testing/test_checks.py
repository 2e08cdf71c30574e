"""Every check can fail: for each there is a family, or another part, that breaks its promise."""

import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import ZooError
from zoo.testing import Reference
from zoo.testing.checks import Check, Outcome, Skip, require_known, run
from zoo.testing.data import DataSubject
from zoo.testing.families import Family
from zoo.testing.heads import HeadSubject
from zoo.testing.modules import ModuleSubject
from zoo.testing.profiles import API, profile
from zoo.testing.recipes import RecipesSubject
from zoo.testing.report import Report, Section

pytestmark = pytest.mark.filterwarnings(
    "ignore:Mismatch dtype between input and weight",
    "ignore:.*torch.jit.script_method.*:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf",
)
CHECKS = [
    pytest.param(check, id=check.name, marks=[pytest.mark.slow] if check.is_slow else [])
    for check in profile("family")
]


@pytest.mark.parametrize("check", CHECKS)
def test_a_family_that_breaks_a_promise_is_told_so(check: Check, broken: Path) -> None:
    if check.name == "its_import_is_light_and_silent":
        kind: Any = type("YourPlugin", (), {"__module__": "loud_family"})
        message = r"import loud_family prints 'hello\\n'"
    else:
        kind, message = importlib.import_module("broken_families").BROKEN[check.name]
    outcome = run(check, Family(kind, wrong if check.name == "it_equals_the_authors_reference" else None))
    assert outcome.state == "failed", outcome
    assert re.match(message, outcome.reason), outcome.reason


SUBJECTS: dict[str, Any] = {"heads": HeadSubject, "data": DataSubject, "modules": ModuleSubject}
PARTS = [
    pytest.param(place, check, id=f"{place}-{check.name}")
    for place, kind in (("heads", "head"), ("data", "data"), ("modules", "module"))
    for check in profile(kind)
]


@pytest.mark.parametrize(("place", "check"), PARTS)
def test_a_part_that_breaks_a_promise_is_told_so(place: str, check: Check, broken: Path) -> None:
    kind, message = importlib.import_module(f"broken_{place}").BROKEN[check.name]
    outcome = run(check, SUBJECTS[place](kind))
    assert outcome.state == "failed", outcome
    assert re.match(message, outcome.reason), outcome.reason


RECIPES = {
    "every_recipe_says_what_it_is": "broken/all does not begin with a comment",
    "every_recipe_holds": "broken/all: unknown key `hiden_size` for zoo.decoders.Llama",
    "no_recipe_names_a_place_of_this_machine": "broken/all names /home/me/texts",
    "every_recipe_fits_the_schema": "broken/all: $.model.init_args.backbone: ",
}


@pytest.mark.parametrize("check", profile("recipes"), ids=lambda check: check.name)
def test_a_recipe_that_breaks_a_promise_is_told_so(check: Check, broken: Path) -> None:
    outcome = run(check, RecipesSubject("broken"))
    assert outcome.state == "failed", outcome
    assert outcome.reason.startswith(RECIPES[check.name]), outcome.reason


def wrong(module: Any) -> Reference:
    def forward(batch: Any) -> Any:
        output = module(**batch)
        return output.logits + 1, output.loss

    return Reference(forward, dict)


# Profiles

FROZEN = {
    "family": 26,
    "head": 12,
    "data": 7,
    "module": 5,
    "recipes": 4,
}


def test_the_first_profile_is_frozen() -> None:
    """Once it is published, a change here is a break of a promise: a new check goes into the next profile."""
    assert {kind: len(profile(kind, 1)) for kind in FROZEN} == FROZEN
    for kind in FROZEN:
        names = [check.name for check in profile(kind, 1)]
        assert len(set(names)) == len(names)
        assert all(check.sentence.endswith(".") for check in profile(kind, 1))
    assert profile("callbacks") == []


def test_a_profile_that_there_is_not_is_refused() -> None:
    with pytest.raises(ZooError) as caught:
        profile("family", API + 1)
    assert (
        str(caught.value)
        == f"there is no profile api={API + 1}\n  known: {', '.join(map(str, range(1, API + 1)))}"
    )


# Outcomes


def holds(subject: Any) -> None:
    """It holds."""


def fails(subject: Any) -> None:
    """It fails."""
    raise AssertionError("it is wrong")


def breaks(subject: Any) -> None:
    """It breaks."""
    raise SystemExit(3)


def is_skipped(subject: Any) -> None:
    """It is skipped."""
    raise Skip("there is none")


@pytest.mark.parametrize(
    ("function", "expected", "state", "reason"),
    [
        (holds, {}, "passed", ""),
        (fails, {}, "failed", "it is wrong"),
        (breaks, {}, "failed", "SystemExit: 3"),
        (is_skipped, {}, "skipped", "there is none"),
        (fails, {"fails": "known"}, "expected", "known"),
        (holds, {"holds": "known"}, "unexpected", "it passes, though it was declared to fail: known"),
        (is_skipped, {"is_skipped": "known"}, "skipped", "there is none"),
    ],
)
def test_what_comes_of_a_check(function: Any, expected: dict[str, str], state: str, reason: str) -> None:
    outcome = run(Check(function), None, expected)
    assert (outcome.state, outcome.reason) == (state, reason)
    assert outcome.is_bad == (state in ("failed", "unexpected"))


def test_a_check_leaves_random_numbers_as_they_were() -> None:
    before = torch.get_rng_state()
    run(Check(lambda subject: torch.rand(3)), None)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)


def test_an_expected_failure_names_a_check_and_a_reason() -> None:
    checks = [Check(holds), Check(fails)]
    names_none = r"^`expected_failures` names no check `hold`\n  did you mean `holds`\?$"
    with pytest.raises(ZooError, match=names_none):
        require_known({"hold": "x"}, checks)
    with pytest.raises(ZooError, match=r"^`expected_failures` gives no reason for `holds`$"):
        require_known({"holds": " "}, checks)


# The report

OUTCOMES = [run(Check(function), None, {}) for function in (holds, fails, is_skipped)]


def report(outcomes: list[Outcome]) -> Report:
    return Report("acme", "1.0", 1, [Section("zoo.heads.Acme", "head", outcomes)])


def test_a_report_counts_what_ran_and_says_why_the_rest_did_not() -> None:
    assert str(report(OUTCOMES)) == (
        "zoo.heads.Acme (head)\n"
        "  ok      holds\n"
        "  FAILED  fails\n"
        "            it is wrong\n"
        "  skipped is_skipped\n"
        "            there is none\n"
        "\n"
        "acme 1.0 does not conform (api 1): 2 ran; 1 passed, 1 failed, 1 skipped"
    )
    plain = report(OUTCOMES).to_plain()
    assert plain["counts"] == {"passed": 1, "failed": 1, "unexpected": 0, "expected": 0, "skipped": 1}
    assert plain["sections"][0]["outcomes"][2]["reason"] == "there is none"


def test_skips_alone_are_no_conformance() -> None:
    assert not report(OUTCOMES[2:]).conforms
    assert not report([]).conforms
    assert report([OUTCOMES[0], OUTCOMES[2]]).conforms
    assert not report([OUTCOMES[0], replace(OUTCOMES[0], state="unexpected")]).conforms
