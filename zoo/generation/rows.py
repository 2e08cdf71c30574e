"""Texts that are being written, each by itself, whatever is written beside it."""

from collections import Counter
from collections.abc import Sequence
from copy import copy
from random import Random


class Row:
    """One text while it is written.

    Args:
        index: Its number among all prompts, whatever batch it is in.
        prompt: The ids that were given: what is continued, or what an encoder reads. Not to be changed.
        ids: What the decoder starts from, where it is not the prompt: the token before the first one.
        seed: Makes its draws repeatable: equal where seed, prompt and occurrence are.
        occurrence: How often the same prompt came before it, so that one prompt gives several texts.
    """

    def __init__(
        self,
        index: int,
        prompt: Sequence[int],
        ids: Sequence[int] | None = None,
        *,
        seed: int | None = None,
        occurrence: int = 0,
    ) -> None:
        self.index, self.prompt = index, prompt
        self.ids = list(prompt if ids is None else ids)
        """What the decoder has read and written so far, the newest last."""
        self.num_given = len(self.ids)
        """How many of `ids` were there before the first new one."""
        self._seed = None if seed is None else f"{seed} {occurrence} {' '.join(map(str, prompt))}"
        self._random: Random | None = None

    def followed_by(self, token: int) -> "Row":
        """The same text with one more token; this one stays as it is."""
        row = copy(self)
        row.ids = [*self.ids, token]
        return row

    @property
    def new(self) -> list[int]:
        """The ids that were written."""
        return self.ids[self.num_given :]

    @property
    def num_new(self) -> int:
        """How many ids were written."""
        return len(self.ids) - self.num_given

    def draw(self) -> float:
        """The row's next random number in (0, 1]; what other rows draw does not touch it."""
        if self._random is None:
            self._random = Random(self._seed)  # noqa: S311, no secret
        return 1 - self._random.random()


def rows_of(
    prompts: Sequence[Sequence[int]], *, start: Sequence[int] | None = None, seed: int | None = None
) -> list[Row]:
    """A row for each prompt.

    Args:
        prompts: The ids that were given.
        start: What the decoder starts from, where it is not the prompt.
        seed: Of all rows' draws, which differ all the same.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    rows = []
    for index, prompt in enumerate(prompts):
        rows.append(Row(index, prompt, start, seed=seed, occurrence=seen[tuple(prompt)]))
        seen[tuple(prompt)] += 1
    return rows
