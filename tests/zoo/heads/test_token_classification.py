"""Labels of words, and the spans that they make."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

import zoo
from zoo.heads.base import Loss
from zoo.heads.spans import SpanMetrics, spans
from zoo.heads.token_classification import first_pieces, word_spans
from zoo.layers import IGNORED

from .conftest import Build

LABELS = ["O", *(f"{tag}-{kind}" for kind in ("PER", "LOC", "new-name") for tag in "BIES")]
HEAD = zoo.heads.TokenClassification(labels=LABELS)
rows_of_labels = st.lists(st.lists(st.sampled_from(LABELS), min_size=1, max_size=8), min_size=1, max_size=4)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(rows=rows_of_labels)
def test_spans_are_those_of_seqeval(rows: list[list[str]]) -> None:
    for row in rows:
        assert spans(row) == get_entities(row)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(data=st.data())
def test_measures_are_those_of_seqeval(data: st.DataObject) -> None:
    batches = data.draw(st.lists(rows_of_labels, min_size=1, max_size=3))
    metrics, every, guesses = SpanMetrics(LABELS), [], []
    for rows in batches:
        guessed = [[data.draw(st.sampled_from([label, "O", "I-PER"])) for label in row] for row in rows]
        width = 2 * max(map(len, rows))
        numbers, told = (torch.full((len(rows), width), IGNORED) for _ in range(2))
        for index, (row, guess) in enumerate(zip(rows, guessed, strict=True)):
            places = range(1, 2 * len(row), 2)  # between them pieces that carry no label
            numbers[index, places] = torch.tensor([LABELS.index(label) for label in row])
            told[index, places] = torch.tensor([LABELS.index(label) for label in guess])
        metrics.update(Loss(torch.tensor(1.0), sum(map(len, rows)), numbers, told), {})
        every, guesses = every + rows, guesses + guessed
    found = {name: float(value) for name, value in metrics.compute().items()}
    expected = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    for name, measure in expected.items():
        assert found[name] == pytest.approx(float(measure(every, guesses, zero_division=0)), abs=1e-6)


def test_the_first_piece_of_a_word_carries_its_label() -> None:
    words = ["the", "cats", "…", "sat"]
    # A special token; pieces, two of one word; a space counted with its word; one of a space alone.
    offsets = [(0, 0), (0, 3), (3, 6), (6, 8), (10, 11), (10, 14), (0, 0)]
    assert first_pieces(offsets, word_spans(words)) == {0: 1, 1: 2, 3: 5}


@pytest.mark.parametrize("family", ["Bert", "Llama"])
def test_spans_are_told_with_their_places(build: Build, family: str, tmp_path: Path) -> None:
    module = build(family, HEAD)
    texts = ["the cat sat on the mat", "dog"]
    found = module.predict(texts)
    assert any(found)
    for text, one in zip(texts, found, strict=True):
        for span in one:
            assert span["text"] == text[span["start"] : span["end"]]
            assert span["label"] in {"PER", "LOC", "new-name"}
            assert 0 < span["score"] <= 1
            assert not span["text"].startswith(" ")
    assert [module.predict([text])[0] == one for text, one in zip(texts, found, strict=True)]
    zoo.save(module, tmp_path)
    again = zoo.load(tmp_path)
    assert again.head_specs == {"head": HEAD}
    assert [len(one) for one in again.predict(texts)] == [len(one) for one in found]
