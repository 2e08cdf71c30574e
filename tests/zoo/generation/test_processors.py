"""What changes logits, beside transformers' processors on random rows."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation import Decoding, Row, Sampler, processors
from zoo.generation.choices import Choices

VOCAB = 12
ids = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30)
many = settings(deadline=None, max_examples=60, derandomize=True)


def logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


def row_of(given: list[int], new: list[int] | None = None) -> Row:
    row = Row(0, given)
    row.ids += new or []
    return row


def ours(processor: Any, row: Row) -> Tensor:
    found: Tensor = processor([row], logits(1, VOCAB))
    return found


def theirs(processor: Any, row: Row) -> Tensor:
    found: Tensor = processor(torch.tensor([row.ids]), logits(1, VOCAB))
    return found


@many
@given(row=ids, penalty=st.floats(0.2, 4.0))
def test_repetitions_are_penalised_as_in_transformers(row: list[int], penalty: float) -> None:
    expected = theirs(transformers.RepetitionPenaltyLogitsProcessor(penalty), row_of(row))
    assert torch.equal(ours(processors.RepetitionPenalty(penalty), row_of(row)), expected)


@many
@given(row=st.lists(st.integers(0, 2), min_size=1, max_size=30), size=st.integers(1, 4))
def test_no_run_of_tokens_is_completed_twice_as_in_transformers(row: list[int], size: int) -> None:
    expected = theirs(transformers.NoRepeatNGramLogitsProcessor(size), row_of(row))
    assert torch.equal(ours(processors.NoRepeatNGram(size), row_of(row)), expected)


@many
@given(
    row=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    words=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=1, max_size=4),
)
def test_bad_words_are_never_completed_as_in_transformers(row: list[int], words: list[list[int]]) -> None:
    reference = transformers.NoBadWordsLogitsProcessor([list(word) for word in words])
    assert torch.equal(ours(processors.NoBadWords(words), row_of(row)), theirs(reference, row_of(row)))


@many
@given(given_ids=ids, new=st.lists(st.integers(0, VOCAB - 1), max_size=4), length=st.integers(1, 30))
def test_rows_are_as_long_as_in_transformers(given_ids: list[int], new: list[int], length: int) -> None:
    row, ends = row_of(given_ids, new), [3, 7]
    expected = theirs(
        transformers.MinNewTokensLengthLogitsProcessor(len(given_ids), length, torch.tensor(ends)), row
    )
    assert torch.equal(ours(processors.MinLength(length, ends), row), expected)
    expected = theirs(transformers.MinLengthLogitsProcessor(length, torch.tensor(ends)), row)
    assert torch.equal(ours(processors.MinLength(length, ends, counts_given=True), row), expected)


@many
@given(given_ids=ids, new=st.lists(st.integers(0, VOCAB - 1), max_size=4), tokens=st.sets(st.integers(0, 9)))
def test_tokens_are_suppressed_and_forced_as_in_transformers(
    given_ids: list[int], new: list[int], tokens: set[int]
) -> None:
    row = row_of(given_ids, new)
    kept = transformers.generation.SuppressTokensLogitsProcessor(tokens)
    assert torch.equal(ours(processors.Suppress(tokens), row), theirs(kept, row))
    begin = transformers.generation.SuppressTokensAtBeginLogitsProcessor(tokens, len(given_ids))
    assert torch.equal(ours(processors.Suppress(tokens, at=0), row), theirs(begin, row))
    start = transformers.ForcedBOSTokenLogitsProcessor(5)
    assert torch.equal(ours(processors.ForcedStart(5), row), theirs(start, row))
    end = transformers.ForcedEOSTokenLogitsProcessor(len(given_ids) + 3, [5, 6])
    assert torch.equal(ours(processors.ForcedEnd([5, 6], 3), row), theirs(end, row))


def test_penalties_are_computed_in_float32_as_in_transformers() -> None:
    row, scores = row_of([1, 2]), torch.tensor([[0.0, 2.0, 1.9921875, 1.5703125]]).bfloat16()
    decoding = Decoding(
        max_new_tokens=1, sampler=Sampler(), processors=[processors.RepetitionPenalty(1.2707)]
    )
    # In bfloat16, 2 / 1.2707 is 1.5703125, too, and the first of equals is taken.
    assert decoding.choose([row], scores.clone()) == [1]
    assert 2 / 1.2707 > 1.5703125
    decoding = replace(decoding, processors=[processors.RepetitionPenalty(1.2754)])
    assert decoding.choose([row], scores.clone()) == [3]
    assert 2 / 1.2754 < 1.5703125


EVERY = (
    processors.RepetitionPenalty(1.3),
    processors.NoRepeatNGram(2),
    processors.NoBadWords([[1], [2, 3]]),
    processors.Suppress([4]),
    processors.Suppress([5], at=0),
    processors.MinLength(3, [6]),
    processors.ForcedStart(2),
    processors.ForcedEnd([7], 2),
    Choices({"a": [1, 2], "b": [1, 2, 3], "c": [4]}, [9]),
)


@many
@given(rows=st.lists(st.tuples(ids, ids), min_size=1, max_size=4))
def test_a_row_in_a_batch_is_treated_as_alone(rows: list[tuple[list[int], list[int]]]) -> None:
    batch, scores = [row_of(*row) for row in rows], logits(len(rows), VOCAB)
    for processor in EVERY:
        together = processor(batch, scores.clone())
        for index, row in enumerate(batch):
            assert torch.equal(
                together[index : index + 1], processor([row], scores[index : index + 1].clone())
            )


# Choices

WORDS = {"no": [1], "not": [1, 2], "nor": [1, 3, 4], "yes": [5, 6]}


def allowed(choices: Choices, new: list[int]) -> set[int]:
    return set(ours(choices, row_of([8], new))[0].isfinite().nonzero().flatten().tolist())


def test_a_row_goes_on_as_a_choice_does() -> None:
    choices = Choices(WORDS, [9, 10])
    assert allowed(choices, []) == {1, 5}
    assert allowed(choices, [1]) == {2, 3, 9, 10}
    assert allowed(choices, [1, 3]) == {4}
    assert allowed(choices, [1, 2]) == {9, 10}
    assert allowed(choices, [5]) == {6}
    complete = [new for new in ([], [1], [1, 2], [1, 3], [1, 3, 4], [5, 6], [7]) if choices.is_complete(new)]
    assert complete == [[1, 2], [1, 3, 4], [5, 6]]


@many
@given(seed=st.integers(0, 99), new=st.sampled_from([[], [1], [1, 2], [1, 3], [5]]))
def test_what_is_left_keeps_its_logits_as_in_transformers(seed: int, new: list[int]) -> None:
    choices, row, scores = Choices(WORDS, [9]), row_of([8], new), logits(1, VOCAB, seed=seed)
    reference = transformers.PrefixConstrainedLogitsProcessor(lambda *_: list(allowed(choices, new)), 1)
    expected = reference(torch.tensor([row.ids]), scores.clone())
    assert torch.equal(choices([row], scores.clone()), expected)


def test_a_row_that_has_ended_is_left_alone_where_nothing_could_follow() -> None:
    assert allowed(Choices({"a": [1]}), [1]) == set(range(VOCAB))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: processors.RepetitionPenalty(0.0),
            "`repetition_penalty` must be above 0, got 0.0",
        ),
        (
            lambda: processors.RepetitionPenalty(float("nan")),
            "`repetition_penalty` must be above 0, got nan",
        ),
        (lambda: processors.NoRepeatNGram(-1), "`no_repeat_ngram_size` must be at least 1, got -1"),
        (lambda: Choices({}), "`choices` must name at least one text"),
        (lambda: Choices({"": []}), "a choice must have at least one token, got ``"),
        (
            lambda: Choices(WORDS),
            "the choice `no` begins another, and the model has no end token to tell them apart",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(make: Any, message: str) -> None:
    with pytest.raises(GenerationError) as caught:
        make()
    assert str(caught.value) == message
