"""Sequences that take no memory: items in a file of this process, and choices of other sequences."""

import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")
U = TypeVar("U")


class OnDisk(Sequence[T]):
    """Items in a temporary file, which ends with the process; in memory is where each begins.

    Args:
        items: Read once, one after the other.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is read as long as this lives
        weakref.finalize(self, self._file.close)
        self._ends = array("q", [0])
        for item in items:
            # What is read back is what was written here: a file without a name.
            self._ends.append(self._ends[-1] + self._file.write(pickle.dumps(item)))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        self._file.seek(self._ends[number])
        item: T = pickle.loads(self._file.read(self._ends[number + 1] - self._ends[number]))  # noqa: S301
        return item


class Chosen(Sequence[U], Generic[T, U]):
    """Something of some items of another sequence, made when it is asked for.

    Args:
        items: The others.
        numbers: Which of them.
        of: What of each.
    """

    def __init__(self, items: Sequence[T], numbers: Sequence[int], of: Callable[[T], U]) -> None:
        self.items, self.numbers, self.of = items, numbers, of

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> U: ...

    @overload
    def __getitem__(self, index: slice) -> list[U]: ...

    def __getitem__(self, index: int | slice) -> U | list[U]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self.of(self.items[self.numbers[index]])
