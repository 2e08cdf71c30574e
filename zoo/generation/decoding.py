"""The decoding loop: tokens in, tokens out, one at a time, with a cache."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation.batches import Batch, Model
from zoo.generation.beams import Beams, search
from zoo.generation.rows import Row
from zoo.generation.samplers import Sampler
from zoo.generation.speculation import Speculation, speculate

Processor = Callable[[Sequence[Row], Tensor], Tensor]
"""The rows of a batch and their next tokens' logits (batch, vocab_size) to the logits that are sampled.

It is called before the sampler, each in turn, once for each token. `rows[b]` is what `logits[b]` continues:
`ids` are all tokens so far, `new` those that were written, `num_given` is where these begin. A row may have
another place in the next batch, and may be a guess that is taken back: what a processor remembers of a row,
it computes from its `ids`. It may change the logits in place, and must treat each row by itself."""

Steps = Iterator[dict[int, list[int]]]
"""The tokens that each step wrote, by the row's number; several at once, or none, where a method says so."""

DROPPED_FRACTION = 0.25
"""Rows are dropped from a batch when so many of them have ended: it costs a copy of what is remembered."""

REPLACED_FRACTION = 0.125
"""Rows that wait enter a batch when so many of its rows have ended: they are read together."""

SPARE_COLUMNS = 128
"""How many more columns than the longest row a batch has whose rows are replaced, so that it is seldom that
what is remembered must be moved to the front."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """When to stop, and how to choose."""

    max_new_tokens: int
    sampler: Sampler
    processors: Sequence[Processor] = ()
    """What changes logits before one is chosen, in turn."""
    seed: int | None = None
    """Makes draws repeatable, row by row, whatever else is in the batch."""
    eos_token_ids: frozenset[int] = frozenset()
    """A row ends with any of these, which is kept."""
    should_stop: Callable[[int, list[int]], bool] | None = None
    """Whether a row, by its number, ends with these new tokens; asked after each.

    Under beams, and where tokens are guessed, it is asked about texts that come to nothing, too, so that it
    must depend on what it is given alone."""
    compile: bool = False
    """Whether the model's steps are compiled."""
    num_rows: int = 32
    """Rows that are written at once; as some end, those that wait take their places."""
    beams: Beams | None = None
    """How to search for the likeliest text; None: each token is chosen at once."""
    speculation: Speculation | None = None
    """How tokens are guessed; None: not at all. It changes how fast a text is written, not the text."""

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise GenerationError(f"`num_rows` must be at least 1, got {self.num_rows}")
        if self.max_new_tokens < 1:
            raise GenerationError(f"`max_new_tokens` must be at least 1, got {self.max_new_tokens}")
        if self.beams is not None and self.speculation is not None:
            raise GenerationError(
                "beams guess no tokens", hint="set num_beams to 1, or leave speculation out"
            )
        if self.beams is not None and self.sampler.temperature > 0:
            raise GenerationError(
                f"beams draw no tokens, and `temperature` is {self.sampler.temperature}",
                hint="set temperature to 0, or num_beams to 1",
            )

    def choose(self, rows: Sequence[Row], logits_BV: Tensor) -> list[int]:
        """The next token of each row."""
        if self.processors:
            logits_BV = logits_BV.float()  # in which penalties round nothing away
        for processor in self.processors:
            logits_BV = processor(rows, logits_BV)
        chosen: list[int] = self.sampler(logits_BV, rows).tolist()
        return chosen

    def ends(self, row: Row) -> bool:
        """Whether the newest token is a row's last."""
        return self.is_whole(row.index, row.new)

    def is_whole(self, index: int, new: list[int]) -> bool:
        """Whether a row, by its number, ends with these new tokens."""
        stops = self.should_stop is not None and self.should_stop(index, new)
        return stops or len(new) >= self.max_new_tokens or new[-1] in self.eos_token_ids

    def extend(self, rows: Sequence[Row], logits_BV: Tensor) -> dict[int, list[int]]:
        """Writes the next token of each row."""
        tokens = self.choose(rows, logits_BV)
        for row, token in zip(rows, tokens, strict=True):
            row.ids.append(token)
        return {row.index: [token] for row, token in zip(rows, tokens, strict=True)}


def write(model: Model, rows: Sequence[Row], decoding: Decoding) -> Steps:
    """Continues each row by whatever method the description asks for.

    Args:
        model: What writes.
        rows: What to continue, none empty.
        decoding: When to stop, and how to choose.

    Yields:
        The new tokens of each row that goes on, step by step. Of a search by beams, a row's whole texts when
        they are found, the best first: they count as rows, several for each prompt where several are wanted.
    """
    if decoding.speculation is not None:
        yield from speculate(model, rows, decoding, decoding.speculation)
        return
    if decoding.beams is None:
        yield from decode(model, rows, decoding)
        return
    number = decoding.beams.num_return_sequences
    for start in range(0, len(rows), decoding.num_rows):
        for found in search(model, rows[start : start + decoding.num_rows], decoding, decoding.beams):
            yield {
                index * number + rank: one.row.new
                for index, best in found.items()
                for rank, one in enumerate(best)
            }


@torch.inference_mode()
def decode(model: Model, rows: Sequence[Row], decoding: Decoding) -> Steps:
    """Continues each row; a batch of rows gives what each alone would.

    Rows that have ended are replaced by others that wait: Yu et al., 2022 (iteration-level scheduling),
    https://www.usenix.org/conference/osdi22/presentation/yu

    Args:
        model: What writes.
        rows: What to continue, none empty; they grow by what is written.
        decoding: When to stop, and how to choose.

    Yields:
        The new token of each row that goes on, step by step; nothing is computed before it is asked for.
    """
    if not rows:
        return
    first, waiting = rows[: decoding.num_rows], deque(rows[decoding.num_rows :])
    longest = max(len(row.ids) for row in rows) + decoding.max_new_tokens
    batch = Batch(model, longest + (SPARE_COLUMNS if waiting else 0))
    going, logits_BV = list(range(len(first))), batch.begin(first)
    while True:
        yield decoding.extend(*_of(going, batch.rows, logits_BV))
        going = [place for place in going if not decoding.ends(batch.rows[place])]
        while waiting and len(batch.rows) - len(going) >= max(1, REPLACED_FRACTION * len(batch.rows)):
            places = sorted(set(range(len(batch.rows))) - set(going))[: len(waiting)]
            entering = [waiting.popleft() for _ in places]
            yield decoding.extend(entering, batch.replace(places, entering))
            going = sorted(going + [place for place in places if not decoding.ends(batch.rows[place])])
        if not going:
            return
        if len(batch.rows) - len(going) >= DROPPED_FRACTION * len(batch.rows):
            batch.select(going)
            going = list(range(len(going)))
        if batch.length == batch.max_tokens:
            batch.release(sorted(set(range(len(batch.rows))) - set(going)))
            batch.trim()
        logits_BV = batch.step()


def _of(places: list[int], rows: list[Row], logits_BV: Tensor) -> tuple[list[Row], Tensor]:
    """The rows at some places, and their logits."""
    if places == list(range(len(rows))):
        return rows, logits_BV
    return [rows[place] for place in places], logits_BV[places]
