"""Answers that are pieces of a text."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from torchmetrics.functional.text import squad

import zoo
from zoo.errors import GenerationError, SpecError
from zoo.heads.answers import exact_match, normalized, word_f1
from zoo.heads.extractive_qa import ExtractiveQAHead
from zoo.heads.windows import windows
from zoo.tokenizer import Tokenizer

from .conftest import MODULES, Build

LONG = " ".join(["the cat sat on the mat and the dog ran to a red sun"] * 12)
WORDS = ["The", "cat", "sat,", "a", "dog", "an", "mat.", "ran", "(red)"]


def asked(build: Build, **choices: Any) -> Any:
    return build("Bert", zoo.heads.ExtractiveQA(stride=8, **choices))


def test_measures_are_those_of_squad() -> None:
    draw = random.Random(0)
    for _ in range(60):
        told = " ".join(draw.choices(WORDS, k=draw.randint(1, 4)))
        right = [" ".join(draw.choices(WORDS, k=draw.randint(1, 4))) for _ in range(3)]
        theirs = squad(
            [{"prediction_text": told, "id": "0"}],
            [{"answers": {"answer_start": [0] * 3, "text": right}, "id": "0"}],
        )
        assert 100 * exact_match(told, right) == pytest.approx(float(theirs["exact_match"]))
        assert 100 * word_f1(told, right) == pytest.approx(float(theirs["f1"]), abs=1e-4)


@pytest.mark.parametrize(
    ("told", "right", "exact", "f1"),
    [("", [], 1, 1), ("cat", [], 0, 0), ("", ["cat"], 0, 0), ("The cat!", ["a cat", "dog"], 1, 1)],
)
def test_no_answer_is_right_where_there_is_none(told: str, right: list[str], exact: float, f1: float) -> None:
    assert (exact_match(told, right), word_f1(told, right)) == (exact, f1)


def test_answers_are_compared_without_articles_and_punctuation() -> None:
    assert normalized(" The  U.S. army, an Ox") == "us army ox"


def test_windows_read_all_of_a_text_with_its_question(tokenizer: Tokenizer) -> None:
    pairs = [("who ran", LONG), ("sun", "the cat")]
    batch = windows(pairs, tokenizer, 32, 8)
    rows = batch["example"].tolist()
    assert rows == sorted(rows)
    assert set(rows) == {0, 1}
    assert batch["input_ids"].shape[1] == 32
    question = tokenizer.encode("who ran", special=False)
    read: set[int] = set()
    for row in range(rows.count(0)):
        assert batch["input_ids"][row, 1 : 1 + len(question)].tolist() == question
        tokens = batch["text_mask"][row].nonzero().flatten()
        for start, end in batch["offsets"][row][tokens].tolist():
            read.update(range(start, end))
        if row:  # it begins 8 tokens before the last one ended
            before = batch["offsets"][row - 1][batch["text_mask"][row - 1]]
            assert_close(batch["offsets"][row][tokens[:8]], before[-8:])
    assert read == {place for place, letter in enumerate(LONG) if letter != " "}


def naive(
    head: ExtractiveQAHead, logits: torch.Tensor, batch: Any, example: int
) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    for row in (batch["example"] == example).nonzero().flatten().tolist():
        places = [token for token in range(logits.shape[1]) if batch["text_mask"][row, token]]
        for first in places:
            for last in places:
                if first <= last < first + head.choices.max_answer_tokens:
                    span = int(batch["offsets"][row, first, 0]), int(batch["offsets"][row, last, 1])
                    score = float(logits[row, first, 0] + logits[row, last, 1])
                    found[span] = max(found.get(span, score), score)
    return found


def test_the_best_answers_are_those_of_a_search_over_all(build: Build) -> None:
    module = asked(build, max_answer_tokens=5, num_best=7)
    head, pairs = module.head(), [("who ran", LONG), ("sun", "the cat sat")]
    batch = head.encode(pairs, module.tokenizer, 32)
    logits = torch.randn(*batch["input_ids"].shape, 2, generator=torch.Generator().manual_seed(1))
    for example, answers in enumerate(head.best(logits, batch)):
        every = naive(head, logits, batch, example)
        best = sorted(every.items(), key=lambda item: -item[1])[:7]
        assert [(answer.start, answer.end) for answer in answers] == [span for span, _ in best]
        assert [answer.score for answer in answers] == pytest.approx([score for _, score in best], abs=1e-5)


def test_no_answer_is_given_above_its_threshold(build: Build) -> None:
    pairs = [("who ran", LONG), ("sun", "the cat sat")]
    low = asked(build, no_answer_threshold=-1e9).predict(pairs)
    high = asked(build, no_answer_threshold=1e9).predict(pairs)
    never = asked(build).predict(pairs)
    assert [one["text"] for one in low] == ["", ""]
    assert [one["text"] for one in high] == [one["text"] for one in never]
    for (_, text), one in zip(pairs, high, strict=True):
        assert one["text"] == text[one["start"] : one["end"]] != ""
        assert "" in [other["text"] for other in one["others"]]
        assert sum(other["score"] for other in (one, *one["others"])) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("family", MODULES)
def test_every_shape_answers(build: Build, family: str, tmp_path: Path) -> None:
    head = zoo.heads.ExtractiveQA()
    module = build(family, head)
    pairs = [("who ran", "the dog ran to a red sun"), ("what", "the cat")]
    together = module.predict(pairs)
    assert [module.predict([pair])[0]["text"] for pair in pairs] == [one["text"] for one in together]
    zoo.save(module, tmp_path)
    assert zoo.load(tmp_path, head=head).predict(pairs) == together


def test_padding_changes_no_loss(build: Build) -> None:
    module = asked(build)
    ids, labels = torch.randint(5, 90, (1, 6)), torch.tensor([[2, 4]])
    padded = torch.nn.functional.pad(ids, (0, 3))
    real = torch.tensor([[1] * 6 + [0] * 3])
    assert_close(module(padded, real, labels).loss, module(ids, labels=labels).loss)


def test_what_is_no_pair_is_refused(build: Build) -> None:
    with pytest.raises(GenerationError) as caught:
        asked(build).predict(["who ran"])
    assert str(caught.value) == "a question is asked with its text\n  give pairs: (question, text)"


def test_a_question_that_leaves_no_room_is_refused(build: Build) -> None:
    with pytest.raises(GenerationError) as caught:
        asked(build).predict([(LONG, LONG)])
    assert caught.value.message == "a question leaves 0 of 64 tokens to its text"


def test_an_answer_needs_a_token() -> None:
    with pytest.raises(SpecError) as caught:
        zoo.heads.ExtractiveQA(max_answer_tokens=0)
    assert caught.value.message == "`max_answer_tokens` must be at least 1, got 0"
