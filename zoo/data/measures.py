"""What tells how well a model does on held-out data, in plain words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Question(NamedTuple):
    """A held-out text, or what else a head is asked about, and the right answer."""

    text: Any
    answer: str


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure that a model and simple methods have in common."""

    name: str
    """As validation logs it: `accuracy`."""
    subject: str
    """What is measured: `texts it never saw`."""
    unit: str
    """What is counted, and which way is better: `told right (more is better)`."""
    form: str = ".1%"
    """How Python writes the figure."""
    score: Callable[[Sequence[str], Sequence[str]], float] | None = None
    """The figure of answers beside the right ones; None where validation logs it."""
