"""The decoding loop: tokens in, tokens out, one at a time, with a cache."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation.caches import Cache
from zoo.generation.rows import Row
from zoo.generation.samplers import Sampler
from zoo.layers import Mask

Step = Callable[[Tensor, Mask, Cache], Tensor]
"""Ids (batch, tokens), what they see and what came before, to the next ones' logits (batch, vocab_size)."""

Processor = Callable[[Sequence[Row], Tensor], Tensor]
"""The rows of a batch and their next tokens' logits (batch, vocab_size) to the logits that are sampled.

It is called before the sampler, each in turn, once for each token. `rows[b]` is what `logits[b]` continues:
`ids` are all tokens so far, `new` those that were written, `num_given` is where these begin. A row may have
another place in the next batch, and may be a guess that is taken back: what a processor remembers of a row,
it computes from its `ids`. It may change the logits in place, and must treat each row by itself."""

Steps = Iterator[dict[int, list[int]]]
"""The tokens that each step wrote, by the row's number; several at once, or none, where a method says so."""


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
    """Whether a row, by its number, ends with these new tokens; asked after each."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise GenerationError(f"`max_new_tokens` must be at least 1, got {self.max_new_tokens}")

    def choose(self, rows: Sequence[Row], logits_BV: Tensor) -> list[int]:
        """The next token of each row."""
        for processor in self.processors:
            logits_BV = processor(rows, logits_BV)
        chosen: list[int] = self.sampler(logits_BV, rows).tolist()
        return chosen

    def ends(self, row: Row) -> bool:
        """Whether the newest token is a row's last."""
        stops = self.should_stop is not None and self.should_stop(row.index, row.new)
        return stops or row.num_new >= self.max_new_tokens or row.ids[-1] in self.eos_token_ids


@torch.inference_mode()
def decode(step: Step, rows: Sequence[Row], decoding: Decoding, device: torch.device) -> Steps:
    """Continues each row; a batch of rows gives what each alone would.

    Args:
        step: The model.
        rows: What to continue, none empty; they are padded on the left, and grow by what is written.
        decoding: When to stop, and how to choose.
        device: Where the model is.

    Yields:
        The new token of each row that goes on, step by step; nothing is computed before it is asked for.
    """
    if not rows:
        return
    longest = max(len(row.ids) for row in rows)
    ids_BT = torch.tensor([[0] * (longest - len(row.ids)) + row.ids for row in rows], device=device)
    lengths = torch.tensor([[len(row.ids)] for row in rows], device=device)
    real_BT = torch.arange(longest, device=device) >= longest - lengths
    is_padded = not bool(real_BT.all())
    cache = Cache(longest + decoding.max_new_tokens)
    open_rows = set(rows)
    while open_rows:
        chosen = decoding.choose(rows, step(ids_BT, Mask(real_BT if is_padded else None), cache))
        written = {}
        for row, token in zip(rows, chosen, strict=True):
            if row in open_rows:
                row.ids.append(token)
                written[row.index] = [token]
                if decoding.ends(row):
                    open_rows.remove(row)
        yield written
        ids_BT = torch.tensor([[token] for token in chosen], device=device)
        real_BT = torch.cat((real_BT, real_BT.new_ones(len(rows), 1)), -1)
