"""The text of new tokens as they come, and the texts at which it ends."""

from collections.abc import Callable, Sequence

from zoo.errors import GenerationError

Decode = Callable[[Sequence[int]], str]
"""Ids to text."""

BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What stands for a character of which some bytes are still to come."""


class Spelling:
    """What tokens say, piece by piece: joined, the pieces are what decoding all at once gives.

    Only the newest tokens are decoded, and those of the piece before, on which it may depend what they say.

    Args:
        decode: Ids to text.
        before: Ids that come before and are not spelled.
    """

    def __init__(self, decode: Decode, before: Sequence[int] = ()) -> None:
        self._decode = decode
        self._ids = list(before)
        self._said = decode(before) if before else ""
        self._num_said = len(self._ids)

    def add(self, ids: Sequence[int]) -> str:
        """The next piece; empty while a character is not whole."""
        self._ids += ids
        text = self._decode(self._ids)
        if len(text) <= len(self._said) or text.endswith(BROKEN):
            return ""
        piece = text[len(self._said) :]
        self._ids = self._ids[self._num_said :]
        self._num_said = len(self._ids)
        self._said = self._decode(self._ids)
        return piece

    def end(self) -> str:
        """What is left: a character that was never finished."""
        return self._decode(self._ids)[len(self._said) :]


class Stop:
    """A text, piece by piece, up to the first of some texts to stop at.

    What may be the beginning of one is held back until it is known not to be.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._longest = max(map(len, texts), default=0)
        self._held = ""
        self.is_reached = False

    def add(self, piece: str) -> str:
        """What is now known to come before a stop."""
        if self.is_reached:
            return ""
        text = self._held + piece
        # The first to be complete counts, so that it does not matter how a text comes in pieces.
        found = min(
            ((text.index(stop) + len(stop), text.index(stop)) for stop in self._texts if stop in text),
            default=None,
        )
        self.is_reached = found is not None
        num_shown = len(text) - self._num_open(text) if found is None else found[1]
        self._held = text[num_shown:]
        return text[:num_shown]

    def end(self) -> str:
        """What was held back, and no stop came of it."""
        return "" if self.is_reached else self._held

    def _num_open(self, text: str) -> int:
        """How many of the last characters may be the beginning of a stop."""
        for number in range(min(self._longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-number:]) for stop in self._texts):
                return number
        return 0


class RowText:
    """One row's new text while its ids come.

    Args:
        decode: Ids to text.
        before: Ids that come before and are not spelled.
        stop: Texts that end it, and are left out.

    Raises:
        GenerationError: One of them is empty.
    """

    def __init__(self, decode: Decode, before: Sequence[int] = (), stop: Sequence[str] = ()) -> None:
        if "" in stop:
            raise GenerationError("a text to stop at must not be empty")
        self._spelling, self._stop = Spelling(decode, before), Stop(stop)
        self._read: list[int] = []
        self._shown: list[str] = []

    def goes_on_as(self, new: Sequence[int]) -> bool:
        """Whether these new ids begin with those that were read."""
        return new[: len(self._read)] == self._read

    @property
    def is_stopped(self) -> bool:
        """Whether one of the texts to stop at was reached."""
        return self._stop.is_reached

    def read(self, new: Sequence[int]) -> str:
        """Takes all new ids so far, and says what may be shown of those that it had not read."""
        unread = list(new[len(self._read) :])
        piece = self._stop.add(self._spelling.add(unread))
        self._read += unread
        self._shown.append(piece)
        return piece

    def end(self) -> str:
        """What may be shown, now that nothing more comes."""
        piece = self._stop.add(self._spelling.end()) + self._stop.end()
        self._shown.append(piece)
        return piece

    def __str__(self) -> str:
        return "".join(self._shown)


class Stopping:
    """Whether a row ends with its newest token: at a text to stop at, or because its choice is complete.

    Args:
        make_text: What reads a row, by its number; None where there is no text to stop at.
        is_complete: Whether new ids are all that a row may write.
    """

    def __init__(
        self,
        make_text: Callable[[int], RowText] | None = None,
        is_complete: Callable[[Sequence[int]], bool] | None = None,
    ) -> None:
        self._make_text, self._is_complete = make_text, is_complete
        self._texts: dict[int, RowText] = {}

    def __call__(self, index: int, new: list[int]) -> bool:
        """Asked after each token of each row, or of each text that is kept of it."""
        if self._is_complete is not None and self._is_complete(new):
            return True
        return self._make_text is not None and self._is_stopped(self._make_text, index, new)

    def _is_stopped(self, make_text: Callable[[int], RowText], index: int, new: list[int]) -> bool:
        text = self._texts.get(index)
        if text is None or not text.goes_on_as(new):  # beams change places
            text = self._texts[index] = make_text(index)
        text.read(new)
        return text.is_stopped
