"""Pairs of texts."""

import json
import types
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.data import StandardLibraryLines, TextPairs
from zoo.errors import DataError, SpecError
from zoo.layers import IGNORED
from zoo.tokenizer import train


def write(path: Path, number: int = 60) -> str:
    rows = [{"input": f"text{index}", "target": f"t e x t {index}"} for index in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def data_of(source: str, **choices: Any) -> TextPairs:
    sizes = {"validation_fraction": 0.2, "tokenizer": "bpe", "vocab_size": 270, "batch_size": 4}
    return TextPairs(source, **{**sizes, "max_length": 16, **choices})


def test_what_is_written_ends_and_padding_is_no_label(tmp_path: Path) -> None:
    data = data_of(write(tmp_path / "pairs.jsonl"))
    data.setup("fit")
    held_out, tokenizer, seen = data.examples()[1], data._tokenizer, 0
    assert tokenizer is not None
    for batch in data.val_dataloader():
        for ids, real, labels in zip(
            batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
        ):
            written = labels[labels != IGNORED].tolist()
            assert ids[real.bool()].tolist() == tokenizer.encode(held_out[seen].input)
            assert written == [
                *tokenizer.encode(held_out[seen].target, special=False),
                data.tokenizer.special_id("eos_token"),
            ]
            seen += 1
    assert seen == len(held_out) > 3


@pytest.mark.parametrize("row_tokens", [None, 32])
def test_an_end_that_is_padding_elsewhere_is_learnt_all_the_same(
    tmp_path: Path, row_tokens: int | None
) -> None:
    data = data_of(write(tmp_path / "pairs.jsonl"), row_tokens=row_tokens)
    data.setup("fit")
    tokenizer = data._tokenizer
    assert tokenizer is not None
    tokenizer.config["pad_token"] = tokenizer.config["eos_token"]
    assert tokenizer.special_id("pad_token") == data.tokenizer.special_id("eos_token")
    training, _ = data.examples()
    labels = data.collate(training[:6])["labels"]
    assert (labels == data.tokenizer.special_id("eos_token")).sum() == 6


def test_texts_that_are_too_long_are_cut_and_end_all_the_same(tmp_path: Path) -> None:
    data = data_of(write(tmp_path / "pairs.jsonl"), max_length=4)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["attention_mask"].sum(-1).max() <= 4
    assert (batch["labels"] != IGNORED).sum(-1).tolist() == [4] * 4
    assert (batch["labels"][:, 3] == data.tokenizer.special_id("eos_token")).all()


def test_pairs_of_one_text_are_on_one_side_and_always_the_same(tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl")
    with open(source, "a") as file:
        file.write("".join(f'{{"input": "text{index}", "target": "other"}}\n' for index in range(60)))
    training, held_out = data_of(source).examples()
    assert len(training) + len(held_out) == 120
    assert not {pair.input for pair in training} & {pair.input for pair in held_out}
    assert data_of(source).examples() == (training, held_out)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"input": "a"}', "a row has no `target`"),
        ('{"input": "a", "target": null}', "`target` must be a text, got NoneType"),
        ("[1]", "a line is no JSON object but list"),
    ],
)
def test_a_row_that_is_wrong_is_refused_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    source = write(tmp_path / "pairs.jsonl", 3)
    with open(source, "a") as file:
        file.write(line)
    with pytest.raises(DataError) as caught:
        data_of(source).examples()
    assert (caught.value.message, caught.value.source) == (message, f"{source}:4")


def test_plain_text_holds_no_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError) as caught:
        data_of(str(tmp_path / "a.txt")).examples()
    assert str(caught.value) == (f"{tmp_path / 'a.txt'} is one text, it has no `target`\n  give jsonl or csv")


@pytest.mark.parametrize(("number", "message"), [(0, "is empty"), (1, "there is no pair to train on")])
def test_too_little_is_refused(tmp_path: Path, number: int, message: str) -> None:
    with pytest.raises(DataError) as caught:
        data_of(write(tmp_path / "pairs.jsonl", number)).examples()
    assert message in caught.value.message


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    data = data_of(write(tmp_path / "pairs.jsonl"))
    spec = zoo.encoder_decoders.Transformer(**zoo.encoder_decoders.Transformer.tiny)
    module = zoo.modules.EncoderDecoderModule(spec)
    plain = train("bpe", ["the cat"], 96)
    module.tokenizer = type(plain)(plain.backend, {})
    data.trainer = types.SimpleNamespace(lightning_module=module)  # type: ignore[assignment]
    module.adopt_tokenizer = lambda tokenizer: None  # type: ignore[method-assign]
    with pytest.raises(DataError) as caught:
        data.setup("fit")
    assert str(caught.value) == "the model's tokenizer has no `eos_token` to end what is written"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"max_characters": 2}, "`max_characters` must be at least 3, got 2"),
        ({"max_held_out": 0}, "`max_held_out` must be at least 1, got 0"),
        ({"max_length": 1}, "`max_length` must be at least 2, got 1"),
    ],
)
def test_sizes_that_make_no_pairs_are_refused(choices: dict[str, int], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        StandardLibraryLines(**choices)  # type: ignore[arg-type]
    assert caught.value.message == message


def test_of_lists_sentences_are_joined_and_the_first_target_is_learnt(tmp_path: Path) -> None:
    rows = [{"input": ["one.", f"two {n}."], "target": [f"first {n}", "second"]} for n in range(20)]
    rows += [{"input": [" "], "target": ["of nothing"]}, {"input": "a", "target": 7}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = [pair for part in TextPairs(str(tmp_path / "rows.jsonl")).examples() for pair in part]
    assert sorted(pairs) == sorted([("a", "7"), *((f"one. two {n}.", f"first {n}") for n in range(20))])
