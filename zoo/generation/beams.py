"""Beam search: of several texts at once, the likeliest go on.

Graves, 2012: https://arxiv.org/abs/1211.3711. Lengths are weighed, and the end is found, as in transformers,
whose `num_beams`, `length_penalty`, `early_stopping` and `num_return_sequences` mean the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation.batches import Batch, Model
from zoo.generation.rows import Row

if TYPE_CHECKING:
    from zoo.generation.decoding import Decoding

HOPELESS = -1e9
"""The score of what is kept only so that there are enough beams."""


@dataclass(frozen=True, kw_only=True)
class Beams:
    """How wide to search, and which texts are best."""

    num_beams: int
    """Texts that go on at once."""
    length_penalty: float = 1.0
    """A text's log-probability is divided by its length to this power: above 0 favours long texts."""
    early_stopping: bool | Literal["never"] = False
    """When a prompt is done: True, as soon as `num_beams` texts have ended; False, when no text that goes on
    would be better if it ended now; "never", when none can be at any length."""
    num_return_sequences: int = 1
    """How many of a prompt's texts are returned, the best first."""

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise GenerationError(f"`num_beams` must be at least 1, got {self.num_beams}")
        if not 1 <= self.num_return_sequences <= self.num_beams:
            raise GenerationError(
                f"`num_return_sequences` must lie between 1 and `num_beams`, "
                f"got {self.num_return_sequences} of {self.num_beams}"
            )
        if self.early_stopping not in (True, False, "never"):
            raise GenerationError(
                f'`early_stopping` must be true, false or "never", got {self.early_stopping!r}'
            )


@dataclass(frozen=True)
class Hypothesis:
    """A text that may be the best one."""

    score: float
    """Its log-probability; of one that has ended, as the length penalty weighs it."""
    row: Row
    """What is written."""


class Search:
    """One prompt's beams."""

    def __init__(self, row: Row, beams: Beams, decoding: "Decoding") -> None:
        self.beams, self.decoding = beams, decoding
        self.index = row.index
        self.going = [Hypothesis(0.0, row)]
        """The texts that go on."""
        self.ended: list[Hypothesis] = []
        """The best of those that have ended, the best first."""
        self._has_more = True

    def advance(self, candidates: Sequence[tuple[float, int, int]]) -> list[int]:
        """Takes the likeliest continuations, each a score, a beam and a token, the likeliest first.

        Returns:
            The beam that each text that goes on came from.
        """
        going: list[tuple[Hypothesis, int]] = []
        ended: list[tuple[Hypothesis, int]] = []
        weight = (self.going[0].row.num_new + 1) ** self.beams.length_penalty
        for rank, (score, beam, token) in enumerate(candidates):
            row = self.going[beam].row.followed_by(token)
            if not self.decoding.ends(row):
                going.append((Hypothesis(score, row), beam))
                continue
            ended.append((Hypothesis(score + HOPELESS, row), beam))
            if rank < self.beams.num_beams:
                self.ended.append(Hypothesis(score / weight, row))
        self.ended = sorted(self.ended, key=lambda one: -one.score)[: self.beams.num_beams]
        chosen = (going + ended * self.beams.num_beams)[: self.beams.num_beams]
        self.going = [hypothesis for hypothesis, _ in chosen]
        self._has_more = bool(going)
        return [beam for _, beam in chosen]

    @property
    def is_done(self) -> bool:
        """Whether no text that goes on can be among the best."""
        if not self._has_more:
            return True
        if len(self.ended) < self.beams.num_beams:
            return False
        if self.beams.early_stopping is True:
            return True
        length = self.going[0].row.num_new
        if self.beams.early_stopping == "never" and self.beams.length_penalty > 0:
            length = self.decoding.max_new_tokens
        best: float = self.going[0].score / length**self.beams.length_penalty
        return best <= self.ended[-1].score


@torch.inference_mode()
def search(
    model: Model, rows: Sequence[Row], decoding: "Decoding", beams: Beams
) -> Iterator[dict[int, list[Hypothesis]]]:
    """Looks for the likeliest texts; a batch of rows gives what each alone would.

    Args:
        model: What writes.
        rows: What to continue, none empty.
        decoding: When to stop; its processors change log-probabilities here.
        beams: How wide to search.

    Yields:
        By the number of each row that is done, its best texts, the best first.
    """
    if not rows:
        return
    batch = Batch(model, max(len(row.ids) for row in rows) + decoding.max_new_tokens)
    searches = [Search(row, beams, decoding) for row in rows]
    logits_BV = batch.begin(rows)
    num_read = batch.length
    while True:
        came_from = _advance(searches, _log_probabilities(batch.rows, logits_BV, decoding), decoding)
        done = {one.index: one.ended[: beams.num_return_sequences] for one in searches if one.is_done}
        yield done
        kept = [index for index, one in enumerate(searches) if not one.is_done]
        if not kept:
            return
        places = [place for index in kept for place in came_from[index]]
        searches = [searches[index] for index in kept]
        if len(places) != len(batch.rows):
            batch.select(places, num_sharing=beams.num_beams)
        elif places != list(range(len(places))):
            batch.select(places, since=num_read, num_sharing=beams.num_beams)
        batch.rows = [hypothesis.row for one in searches for hypothesis in one.going]
        logits_BV = batch.step()


def _log_probabilities(rows: Sequence[Row], logits_BV: Tensor, decoding: "Decoding") -> Tensor:
    """Of the next tokens, float32."""
    found_BV = logits_BV.float().log_softmax(-1)
    for processor in decoding.processors:
        found_BV = processor(rows, found_BV)
    return found_BV


def _advance(searches: Sequence[Search], next_BV: Tensor, decoding: "Decoding") -> list[list[int]]:
    """Lets each prompt's beams go on; returns the places in the batch that they came from."""
    num_prompts, num_beams, vocab_size = len(searches), len(searches[0].going), next_BV.shape[-1]
    scores = [[hypothesis.score for hypothesis in one.going] for one in searches]
    scores_PB1 = torch.tensor(scores, device=next_BV.device)[..., None]
    total_PN = (next_BV.view(num_prompts, num_beams, vocab_size) + scores_PB1).flatten(1)
    # So many that there are enough, were all that the likeliest beams want to end.
    wanted = max(2, 1 + len(decoding.eos_token_ids)) * searches[0].beams.num_beams
    best = total_PN.topk(min(wanted, total_PN.shape[1]), -1)
    places = []
    for number, (values, indices) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
        candidates = [
            (value, index // vocab_size, index % vocab_size)
            for value, index in zip(values, indices, strict=True)
        ]
        places.append([number * num_beams + beam for beam in searches[number].advance(candidates)])
    return places
