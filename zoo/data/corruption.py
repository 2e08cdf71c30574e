"""Texts with holes in them, for encoder-decoders that say what was there.

Spans behind sentinels: Raffel et al., 2019, section 3.1.4: https://arxiv.org/abs/1910.10683
Infilling, and sentences in another order: Lewis et al., 2019, section 2.2: https://arxiv.org/abs/1910.13461
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, count, pairwise, takewhile

import torch
from torch import Generator, Tensor

from zoo.data.masking import generator_of
from zoo.data.packing import laid_out
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.tokenizer import Tokenizer

Ids = list[int]
Corrupt = Callable[[Ids, Generator | None], tuple[Ids, Ids]]
"""Makes of a text what is read, and what is to be written."""

SENTENCE_ENDS = (".", "!", "?")


@dataclass(frozen=True)
class Holes:
    """How much of a text is hidden."""

    fraction: float
    """Share of its tokens."""
    mean_span_tokens: float
    """Tokens of a hidden span, on average."""

    def num_hidden(self, num_tokens: int) -> int:
        """Hidden tokens of a text of so many: at least one, never all."""
        return min(max(round(num_tokens * self.fraction), 1), num_tokens - 1)

    def num_spans(self, num_tokens: int) -> int:
        """In how many spans they lie, with something kept between them."""
        hidden = self.num_hidden(num_tokens)
        return min(max(round(hidden / self.mean_span_tokens), 1), hidden, num_tokens - hidden)


@dataclass(frozen=True)
class Spans:
    """Each hidden span becomes a sentinel; the sentinels are written, each before its span. As in T5."""

    holes: Holes
    sentinels: Ids

    def __call__(self, ids: Ids, generator: Generator | None) -> tuple[Ids, Ids]:
        """Hidden spans that do not touch, at any places; one token alone is kept."""
        if len(ids) < 2:
            return ids, []
        hidden, number = self.holes.num_hidden(len(ids)), self.holes.num_spans(len(ids))
        spans = _parts(hidden, number, generator)
        # A text of T5 itself begins with a kept span and ends with a hidden one: the last token always hides.
        before, *kept = _parts(len(ids) - hidden + 2, number + 1, generator)
        kept[-1] -= 1
        place = before - 1
        read, written = ids[:place], Ids()
        for mark, span, gap in zip(self.sentinels, spans, kept, strict=False):
            written += [mark, *ids[place : place + span]]
            read += [mark, *ids[place + span : place + span + gap]]
            place += span + gap
        return read, written


@dataclass(frozen=True)
class Infilling:
    """Each hidden span, empty ones too, becomes one mask; the whole text is written. As in BART."""

    holes: Holes
    mask: int
    ends_sentence: Tensor | None = None
    """Of each id whether a sentence ends with it, where sentences are put into another order."""

    def __call__(self, ids: Ids, generator: Generator | None) -> tuple[Ids, Ids]:
        """Sentences in another order, if asked for; then spans, their lengths drawn from Poisson's law."""
        if len(ids) < 2:
            return ids, ids
        lengths = self._lengths(self.holes.num_hidden(len(ids)), generator)
        kept = _gaps(len(ids) - sum(lengths), len(lengths) + 1, generator)
        shuffled, read, place = self._shuffled(ids, generator), Ids(), 0
        for gap, length in zip(kept, [*lengths, 0], strict=True):
            read += [*shuffled[place : place + gap], self.mask]
            place += gap + length
        return read[:-1], ids

    def _lengths(self, hidden: int, generator: Generator | None) -> list[int]:
        # A mean of one or more takes fewer than so many spans, but for a chance that is next to nothing.
        means = torch.full((2 * hidden + 8,), self.holes.mean_span_tokens)
        drawn = torch.poisson(means, generator=generator).long().tolist()
        before = takewhile(lambda total: total < hidden, accumulate(drawn, initial=0))
        return [min(length, hidden - total) for length, total in zip(drawn, before, strict=False)]

    def _shuffled(self, ids: Ids, generator: Generator | None) -> Ids:
        if self.ends_sentence is None:
            return ids
        ends = [place + 1 for place in self.ends_sentence[ids].nonzero().flatten().tolist()]
        sentences = [ids[start:stop] for start, stop in pairwise(sorted({0, *ends, len(ids)}))]
        order = torch.randperm(len(sentences), generator=generator).tolist()
        return [token for number in order for token in sentences[number]]


@dataclass(frozen=True)
class Corruption:
    """Batches of corrupted texts."""

    corrupt: Corrupt
    before: Ids
    """Special tokens before a text, whether read or written."""
    after: Ids
    """Special tokens after it."""
    padding: int
    seed: int | None = None
    """Makes the same holes in a text each time; None draws anew."""

    def __call__(self, rows: list[Batch]) -> Batch:
        """One batch: `input_ids`, `attention_mask` and `labels`, -100 after the end of each."""
        texts = [row["input_ids"][row["labels"] != IGNORED] for row in rows]
        pairs = [self.corrupt(ids.tolist(), generator_of(ids, self.seed)) for ids in texts]
        read, written = (
            [[*self.before, *ids, *self.after] for ids in side] for side in zip(*pairs, strict=True)
        )
        alone = [[number] for number in range(len(rows))]
        input_ids, attention_mask = laid_out(read, alone, self.padding)
        labels, _ = laid_out(written, alone, IGNORED)
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def _parts(total: int, number: int, generator: Generator | None) -> list[int]:
    """Cuts a total into so many parts of at least one, each way as likely."""
    cuts = torch.randperm(total - 1, generator=generator)[: number - 1].sort().values + 1
    return [stop - start for start, stop in pairwise([0, *cuts.tolist(), total])]


def _gaps(total: int, number: int, generator: Generator | None) -> list[int]:
    """Cuts a total at places drawn one by one, so that parts may be empty."""
    cuts = torch.randint(0, total + 1, (number - 1,), generator=generator).sort().values
    return [stop - start for start, stop in pairwise([0, *cuts.tolist(), total])]


def sentinel(number: int) -> str:
    """The token that stands for a hidden span, as T5 spells it."""
    return f"<extra_id_{number}>"


def sentinels_of(tokenizer: Tokenizer) -> Ids:
    """Their ids, as many as the tokenizer has."""
    found = (tokenizer.backend.token_to_id(sentinel(number)) for number in count())
    return list(iter(lambda: next(found), None))


def ends_sentence(tokenizer: Tokenizer) -> Tensor:
    """Of each id whether a sentence ends with it."""
    ids = [[number] for number in range(tokenizer.vocab_size)]
    texts = tokenizer.backend.decode_batch(ids, skip_special_tokens=True)
    return torch.tensor([text.rstrip().endswith(SENTENCE_ENDS) for text in texts])
