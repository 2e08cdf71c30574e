"""Rows that cannot be used: an error, or left out and counted."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from zoo.errors import DataError, SpecError, ZooError

OnBadRow = Literal["error", "skip"]
"""What a row does that cannot be used: ends the run, or is left out and counted."""

NUM_SHOWN = 3
"""Bad rows of which place and fault are kept, to be shown."""


class BadRows:
    """What is done about rows that cannot be used, and how many there were.

    Args:
        on_bad_row: `error` or `skip`.

    Raises:
        SpecError: It is neither.
    """

    def __init__(self, on_bad_row: OnBadRow = "error") -> None:
        if on_bad_row not in (known := get_args(OnBadRow)):
            raise SpecError(
                f"`on_bad_row` must be one of {', '.join(known)}, got `{on_bad_row}`", at="on_bad_row"
            )
        self.are_skipped = on_bad_row == "skip"
        self.shown: list[str] = []
        """The first of them, each with its place and fault."""
        self.met: set[str] = set()
        """Those that were met while batches were made, in words that tell them apart."""
        self._num_read = 0

    @property
    def count(self) -> int:
        """How many there were."""
        return self._num_read + len(self.met)

    @contextmanager
    def row(self) -> Iterator[None]:
        """Reads one row; what is wrong with it is raised, or counted."""
        try:
            yield
        except DataError as error:
            self.read(error)

    def read(self, error: DataError) -> None:
        """Counts a row that was read and is bad.

        Raises:
            DataError: The same, where bad rows are errors.
        """
        if not self.are_skipped:
            raise error
        self._num_read += 1
        self._show(error)

    def meet(self, row: str, error: ZooError) -> None:
        """Counts a row of which no batch can be made; each epoch meets it again."""
        if row not in self.met:
            self._show(error)
            self.met.add(row)

    def _show(self, error: ZooError) -> None:
        if len(self.shown) < NUM_SHOWN:
            self.shown.append(f"{error.source}: {error.message}" if error.source else error.message)

    def join(self, met: Iterable[str], shown: Iterable[str]) -> None:
        """Takes over what another process, or the run before a restart, has met."""
        self.met.update(met)
        self.shown += [line for line in shown if line not in self.shown]

    def since(self, known: int, source: str) -> DataError | None:
        """What to say where a source leaves no row, if there were bad ones beside those known before."""
        if self.count == known:
            return None
        return DataError(f"all rows of `{source}` are bad", hint="\n".join(self.shown))
