"""What a user can cause: one screen, no traceback; subject, rule, value, remedy."""

import difflib
from collections.abc import Iterable


class ZooError(Exception):
    """A mistake that its user can mend; the command line prints it and exits with 2.

    Args:
        message: One sentence: the subject, the rule and the value received.
        at: Where in the recipe, as a dotted key.
        source: The file and line, or the flag, that the value came from.
        hint: What to do about it.
    """

    def __init__(
        self, message: str, *, at: str | None = None, source: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.source = source
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        if self.at:
            lines.append(f"  at    {self.at}")
        if self.source:
            lines.append(f"  in    {self.source}")
        if self.hint:
            lines += [f"  {line}" for line in self.hint.splitlines()]
        return "\n".join(lines)


class SpecError(ZooError, ValueError):
    """A spec whose values do not fit together."""


class UnknownNameError(ZooError, AttributeError):
    """A name that no installed plugin registers."""


class PluginLoadError(ZooError, ImportError):
    """A plugin that is registered and cannot be used."""


class RecipeError(ZooError):
    """A recipe, or a flag on top of it, that cannot be run."""


class DataError(ZooError, ValueError):
    """Data that cannot be read, with its file and line."""


class CheckpointError(ZooError, ValueError):
    """A checkpoint that does not fit what is built, or cannot be read."""


class TrainingError(ZooError, ArithmeticError):
    """A run that cannot go on, with the batch that it ended at."""


class GenerationError(ZooError, ValueError):
    """A prompt or a choice of decoding that cannot be followed."""


def with_article(noun: str) -> str:
    """`a decoder`, `an encoder`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` most likely meant, or None."""
    known = list(known)
    folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The line that follows an unknown name: the nearest known one, else all of them."""
    known = sorted(known)
    if (close := nearest(name, known)) is not None:
        return f"did you mean `{close}`?"
    return f"known: {', '.join(known)}" if known else None
