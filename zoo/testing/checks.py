"""A check, how it is run, and what came of it. Needs no pytest."""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch

from zoo.errors import ZooError, did_you_mean

State = Literal["passed", "failed", "skipped", "expected", "unexpected"]
"""`expected` failed as was declared; `unexpected` passed though a failure was declared."""
F = TypeVar("F", bound=Callable[..., None])


class Skip(Exception):  # noqa: N818 - it is no error
    """Raised by a check that cannot be made here, with the reason."""


def slow(check: F) -> F:
    """Marks a check that takes seconds: it compiles, or starts processes."""
    check.is_slow = True  # type: ignore[attr-defined]
    return check


@dataclass(frozen=True)
class Check:
    """One small function that raises where a promise is not kept."""

    run: Callable[[Any], None]

    @property
    def name(self) -> str:
        """The function's own: `padding_changes_nothing`."""
        return self.run.__name__

    @property
    def sentence(self) -> str:
        """What it holds its subject to: the first line of its docstring."""
        return (inspect.getdoc(self.run) or "").partition("\n")[0]

    @property
    def is_slow(self) -> bool:
        """Whether it takes seconds."""
        return getattr(self.run, "is_slow", False)


@dataclass(frozen=True)
class Outcome:
    """What came of one check."""

    check: str
    sentence: str
    state: State
    reason: str = ""
    """Why it failed or was skipped."""
    seconds: float = 0.0

    @property
    def is_bad(self) -> bool:
        """Whether the subject does not conform."""
        return self.state in ("failed", "unexpected")


def run(check: Check, subject: Any, expected: Mapping[str, str] | None = None) -> Outcome:
    """Makes one check, with seeds of its own; whatever it raises is an outcome.

    Args:
        check: What is checked.
        subject: On what.
        expected: Checks that are known to fail, by name, and why.
    """
    why, start = (expected or {}).get(check.name), time.perf_counter()

    def outcome(state: State, reason: str = "") -> Outcome:
        return Outcome(check.name, check.sentence, state, reason, time.perf_counter() - start)

    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            check.run(subject)
    except Skip as skip:
        return outcome("skipped", str(skip))
    except (Exception, SystemExit) as error:
        return outcome("failed" if why is None else "expected", _told(error) if why is None else why)
    if why is None:
        return outcome("passed")
    return outcome("unexpected", f"it passes, though it was declared to fail: {why}")


def _told(error: BaseException) -> str:
    is_plain = isinstance(error, AssertionError | ZooError) and str(error)
    return str(error) if is_plain else f"{type(error).__name__}: {error}"


def require_known(expected: Mapping[str, str], checks: Sequence[Check]) -> None:
    """Refuses expected failures of checks that there are not, or without a reason.

    Raises:
        ZooError: With the name, and the nearest that there is.
    """
    names = {check.name for check in checks}
    for name, reason in expected.items():
        if name not in names:
            raise ZooError(f"`expected_failures` names no check `{name}`", hint=did_you_mean(name, names))
        if not reason.strip():
            raise ZooError(f"`expected_failures` gives no reason for `{name}`")
