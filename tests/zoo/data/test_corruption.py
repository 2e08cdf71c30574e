"""Holes in texts: what is read and what is written hold the whole text."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.corruption import Corruption, Holes, Infilling, Spans, ends_sentence, sentinels_of
from zoo.layers import IGNORED
from zoo.tokenizer import train

SENTINELS = list(range(1000, 1400))
MASK = 999

texts = st.lists(st.integers(0, 99), min_size=2, max_size=120)
holes = st.builds(Holes, st.floats(0.05, 0.95), st.floats(1, 8))
seeds = st.integers(0, 2**31)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mended(read: list[int], written: list[int]) -> list[int]:
    """The text, by putting each written span where its sentinel stands."""
    spans: dict[int, list[int]] = {}
    for token in written:
        if token >= 1000:
            span = spans.setdefault(token, [])
        else:
            span.append(token)
    return [piece for token in read for piece in spans.get(token, [token])]


@settings(deadline=None, max_examples=200, derandomize=True)
@given(ids=texts, holes=holes, seed=seeds)
def test_spans_put_where_their_sentinels_stand_give_the_text(ids: list[int], holes: Holes, seed: int) -> None:
    read, written = Spans(holes, SENTINELS)(ids, generator(seed))
    number = holes.num_spans(len(ids))
    assert mended(read, written) == ids
    assert [token for token in read if token >= 1000] == SENTINELS[:number]
    assert [token for token in written if token >= 1000] == SENTINELS[:number]
    assert len(written) == holes.num_hidden(len(ids)) + number


def test_fifteen_in_a_hundred_tokens_hide_in_spans_of_three_as_in_t5() -> None:
    holes = Holes(0.15, 3.0)
    assert (holes.num_hidden(512), holes.num_spans(512)) == (77, 26)
    read, written = Spans(holes, SENTINELS)(list(range(512)), None)
    assert (len(read), len(written)) == (512 - 77 + 26, 77 + 26)


def test_every_token_is_hidden_as_often_as_any_other() -> None:
    counts = torch.zeros(40)
    for seed in range(2000):
        _, written = Spans(Holes(0.25, 2.0), SENTINELS)(list(range(40)), generator(seed))
        counts[[token for token in written if token < 1000]] += 1
    shares = counts / 2000
    assert shares.mean().item() == pytest.approx(0.25)
    assert shares.min() > 0.14
    assert shares.max() < 0.32


@settings(deadline=None, max_examples=200, derandomize=True)
@given(ids=texts, holes=holes, seed=seeds)
def test_infilling_keeps_the_order_and_hides_so_many_tokens(ids: list[int], holes: Holes, seed: int) -> None:
    read, written = Infilling(holes, MASK)(ids, generator(seed))
    kept = [token for token in read if token != MASK]
    assert written == ids
    assert len(ids) - len(kept) == holes.num_hidden(len(ids))
    rest = iter(ids)
    assert all(token in rest for token in kept)  # a subsequence
    assert MASK in read


def test_spans_to_be_filled_in_have_the_length_asked_for_on_average() -> None:
    lengths: list[int] = []
    for seed in range(300):
        read, _ = Infilling(Holes(0.3, 3.0), MASK)(list(range(200)), generator(seed))
        lengths.append(60 / read.count(MASK))
    assert sum(lengths) / len(lengths) == pytest.approx(3.0, abs=0.2)


def test_sentences_stand_in_another_order_and_stay_whole() -> None:
    ends = torch.zeros(100, dtype=torch.bool)
    ends[9] = True
    ids = [1, 2, 9, 3, 9, 4, 5, 6, 9, 7, 8]
    infilling = Infilling(Holes(0.01, 1.0), MASK, ends)
    orders = {tuple(infilling._shuffled(ids, generator(seed))) for seed in range(60)}
    sentences = [(1, 2, 9), (3, 9), (4, 5, 6, 9), (7, 8)]
    assert len(orders) > 15
    assert all(sorted(order) == sorted(ids) for order in orders)
    for order in orders:
        assert all("".join(map(str, sentence)) in "".join(map(str, order)) for sentence in sentences)


def test_a_seed_makes_the_same_holes_and_none_makes_others() -> None:
    rows = [{"input_ids": torch.arange(50), "labels": torch.arange(50)} for _ in range(2)]

    def batch(seed: int | None) -> list[int]:
        ids: list[int] = Corruption(Spans(Holes(0.2, 2.0), SENTINELS), [], [1], 0, seed)(rows)[
            "labels"
        ].tolist()
        return ids

    assert batch(3) == batch(3) != batch(4)
    assert batch(None) != batch(None)


def test_a_batch_is_framed_and_filled_up() -> None:
    rows = [
        {"input_ids": torch.arange(10, 30), "labels": torch.arange(10, 30)},
        {"input_ids": torch.arange(10, 30), "labels": torch.tensor([*range(10, 18), *[IGNORED] * 12])},
    ]
    batch = Corruption(Infilling(Holes(0.3, 3.0), MASK), [0], [2], 1, seed=0)(rows)
    for ids, real, labels, size in zip(*batch.values(), (20, 8), strict=True):
        read = ids[real.bool()].tolist()
        assert (read[0], read[-1]) == (0, 2)
        assert ids[~real.bool()].tolist() == [1] * int((real == 0).sum())
        assert labels[: size + 2].tolist() == [0, *range(10, 10 + size), 2]
        assert set(labels[size + 2 :].tolist()) <= {IGNORED}


def test_sentinels_and_the_ends_of_sentences_are_found_in_a_vocabulary() -> None:
    tokenizer = train("wordpiece", ["Is it so? It is. Oh!"] * 3, 60)
    more = tokenizer.with_special_tokens({}, ["<extra_id_0>", "<extra_id_1>", "<extra_id_3>"])
    assert sentinels_of(tokenizer) == []
    assert sentinels_of(more) == [tokenizer.vocab_size, tokenizer.vocab_size + 1]
    ends = ends_sentence(tokenizer)
    assert {tokenizer.backend.id_to_token(int(number)) for number in ends.nonzero()} >= {".", "?", "!"}
    assert not ends[tokenizer.encode("so", special=False)].any()
