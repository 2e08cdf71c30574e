"""Sentences with labels, from CoNLL's columns and from jsonl."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.data import TokenClassification
from zoo.data.token_classification import Sentence
from zoo.errors import DataError
from zoo.heads.spans import spans
from zoo.layers import IGNORED
from zoo.modules import EncoderModule

from .test_text_classification import attach

CONLL = "# a comment\n-DOCSTART- -X- O O\n\nAnna\tB-PER\nSmith\tI-PER\nruns\tO\n\n\nto Paris B-LOC\n"


def data_of(source: Path | str, **choices: Any) -> TokenClassification:
    given = {"validation_fraction": 0.2, "vocab_size": 120, "batch_size": 4, **choices}
    return TokenClassification(str(source), **given)


def many(path: Path, number: int = 30, words: int = 6) -> Path:
    """Sentences with a span that must not be cut."""
    rows = []
    for index in range(number):
        row = [f"word{index}", "is", *["very"] * words, "Anna", "Smith", "too"]
        tags = ["O"] * (2 + words) + ["B-PER", "I-PER", "O"]
        rows.append("".join(f"{word}\t{tag}\n" for word, tag in zip(row, tags, strict=True)))
    path.write_text("\n".join(rows))
    return path


@pytest.mark.parametrize("name", ["a.conll", "a.bio.txt", "a.tsv", "a.bio.txt.gz"])
def test_columns_are_read_by_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(CONLL.encode(), mtime=0) if name.endswith(".gz") else CONLL.encode())
    assert data_of(path).read_source(str(path)) == [
        Sentence(["Anna", "Smith", "runs"], ["B-PER", "I-PER", "O"], [f"{path}:{n}" for n in (4, 5, 6)]),
        Sentence(["to"], ["B-LOC"], [f"{path}:9"]),
    ]


def test_lists_are_read_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"words": ["to", "Paris"], "tags": ["O", "B-LOC"]}))
    assert data_of(path).read_source(str(path)) == [
        Sentence(["to", "Paris"], ["O", "B-LOC"], [f"{path}:1"] * 2)
    ]


def test_first_pieces_carry_the_labels_of_their_words(tmp_path: Path) -> None:
    data = data_of(many(tmp_path / "a.conll"))
    data.setup("fit")
    assert data.labels == ["O", "B-PER", "I-PER"]
    seen: list[str] = []
    for batch in data.val_dataloader():
        for row in batch["labels"]:
            seen.append(" ".join(data.labels[number] for number in row[row != IGNORED]))
    assert seen == [" ".join(sentence.labels) for sentence in data.examples()[1]]


def test_a_long_sentence_is_read_in_pieces_that_cut_no_span(tmp_path: Path) -> None:
    source = many(tmp_path / "a.conll", words=30)
    whole, data = data_of(source), data_of(source, max_length=24)
    whole.setup("fit")
    data.setup("fit")
    before, after = whole.examples()[1], data.examples()[1]
    assert len(after) > len(before)
    assert [word for one in after for word in one.words] == [word for one in before for word in one.words]
    assert sum(len(spans(one.labels)) for one in after) == sum(len(spans(one.labels)) for one in before)
    for batch in data.val_dataloader():
        assert batch["input_ids"].shape[1] <= 24


@pytest.mark.parametrize(
    ("name", "line", "message", "hint"),
    [
        (
            "a.conll", "Anna", "a line has no label: `Anna`",
            "each line has a word and its label, with a tab or spaces between",
        ),
        ("a.conll", " \tO", "a word is empty", "leave it out, with its label"),
        ("a.conll", "Anna B-pers", "the label `B-pers` is none of the head's", "they are: O, B-PER, I-PER"),
        (
            "a.jsonl", '{"tokens": ["a", "b"], "ner_tags": ["O"]}', "a row has 2 `tokens` and 1 `ner_tags`",
            "give each word one label",
        ),
        ("a.jsonl", '{"tokens": "a b", "ner_tags": ["O"]}', "`tokens` must be a list, got str", None),
        ("a.jsonl", '{"tokens": ["a"]}', "a row has no `ner_tags`", "known: tokens"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, name: str, line: str, message: str, hint: str | None
) -> None:
    path = tmp_path / name
    good = "on O\n\n" if name == "a.conll" else '{"tokens": ["on"], "ner_tags": ["O"]}\n\n'
    path.write_text(good + line)
    head = zoo.heads.TokenClassification(labels=["O", "B-PER", "I-PER"])
    data = data_of(path, validation=str(path))
    attach(
        data,
        EncoderModule(
            zoo.encoders.Bert(
                **{**zoo.encoders.Bert.tiny, "vocab_size": 200, "max_position_embeddings": 128}
            ),
            head,
        ),
    )
    with pytest.raises(DataError) as caught:
        data.setup("fit")
    assert (caught.value.message, caught.value.source, caught.value.hint) == (message, f"{path}:3", hint)


@pytest.mark.parametrize("name", ["wnut17", "uner_ewt"])
def test_real_names_keep_every_span(shared: Path, name: str) -> None:
    data = data_of(shared / "data" / name, validation="validation", vocab_size=2000, max_length=48)
    before = data.examples()
    counts = [sum(len(spans(one.labels)) for one in part) for part in before]
    words = [sum(len(one.words) for one in part) for part in before]
    data.setup("fit")
    assert [sum(len(spans(one.labels)) for one in part) for part in data.examples()] == counts
    lost = words[1] - sum(int((batch["labels"] != IGNORED).sum()) for batch in data.val_dataloader())
    assert lost <= words[1] / 1000  # words of which a tokenizer leaves nothing
