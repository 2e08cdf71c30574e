"""What came of all checks, as text and as JSON: what ran, and what was skipped and why."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zoo.testing.checks import Outcome

_MARKS = {
    "passed": "ok",
    "failed": "FAILED",
    "skipped": "skipped",
    "expected": "known",
    "unexpected": "FAILED",
}
_WORDS = {
    "passed": "passed",
    "failed": "failed",
    "unexpected": "passed though declared to fail",
    "expected": "failed as declared",
    "skipped": "skipped",
}


@dataclass(frozen=True)
class Section:
    """The checks of one thing that is registered."""

    subject: str
    """Its name in its group, or of a recipe: `zoo.encoders.AcmeBert`."""
    profile: str
    """The kind of thing that it is."""
    outcomes: Sequence[Outcome]

    def __str__(self) -> str:
        lines = [f"{self.subject} ({self.profile})"]
        for outcome in self.outcomes:
            lines.append(f"  {_MARKS[outcome.state]:8}{outcome.check}")
            if outcome.reason:
                lines.append(textwrap.indent(outcome.reason, " " * 12))
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """The checks of a plugin."""

    plugin: str
    version: str
    api: int
    """The version of the profiles."""
    sections: list[Section] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many checks ended in each state."""
        found = Counter(outcome.state for section in self.sections for outcome in section.outcomes)
        return {state: found[state] for state in _WORDS}  # type: ignore[index]

    @property
    def conforms(self) -> bool:
        """Whether something ran and nothing is amiss."""
        counts = self.counts
        return counts["passed"] > 0 and not counts["failed"] and not counts["unexpected"]

    def summary(self) -> str:
        """One line: what ran, what was not."""
        ran = sum(number for state, number in self.counts.items() if state != "skipped")
        told = [f"{number} {_WORDS[state]}" for state, number in self.counts.items() if number]
        verdict = "conforms" if self.conforms else "does not conform"
        return (
            f"{self.plugin} {self.version} {verdict} (api {self.api}): {ran} ran; {', '.join(told) or 'none'}"
        )

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.sections), self.summary()])

    def to_plain(self) -> dict[str, Any]:
        """As values of JSON."""
        return {**asdict(self), "counts": self.counts, "conforms": self.conforms}
