"""Texts as padded tensors, as the checkpoint's files say."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.errors import DataError
from zoo.modules import EncoderModule
from zoo.tokenizer import Tokenizer, train

TEXTS = ["the cat sat on the mat", "def f(x): return x", "a b c d e f"]
text = st.text("abc def(x)", max_size=30)


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    return train("wordpiece", TEXTS, 60)


def with_config(tokenizer: Tokenizer, **config: Any) -> Tokenizer:
    return Tokenizer(tokenizer.backend, {**tokenizer.config, **config})


@pytest.mark.parametrize("side", ["right", "left"])
@settings(deadline=None, max_examples=50, derandomize=True)
@given(texts=st.lists(text | st.tuples(text, text), min_size=1, max_size=5))
def test_a_batch_holds_each_text_as_it_stands_alone(
    wordpiece: Tokenizer, side: str, texts: list[str | tuple[str, str]]
) -> None:
    tokenizer = with_config(wordpiece, padding_side=side)
    batch = tokenizer.batch(texts)
    assert {tensor.shape for tensor in batch.values()} == {batch["input_ids"].shape}
    for row, one in enumerate(texts):
        alone = tokenizer.batch([one])
        assert alone["attention_mask"].all()
        length = alone["input_ids"].shape[1]
        width = batch["input_ids"].shape[1]
        place = slice(width - length, None) if side == "left" else slice(length)
        for name, tensor in batch.items():
            assert torch.equal(tensor[row, place], alone[name][0])
            assert tensor[row].sum() == alone[name].sum()  # all else is zero


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize("truncation_side", ["right", "left"])
@pytest.mark.parametrize("model_max_length", [7, 12, int(1e30)])
def test_a_batch_is_what_transformers_makes_of_the_same_files(
    wordpiece: Tokenizer, tmp_path: Path, padding_side: str, truncation_side: str, model_max_length: int
) -> None:
    config = {"padding_side": padding_side, "truncation_side": truncation_side}
    ours = with_config(wordpiece, model_max_length=model_max_length, **config)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    pairs: list[tuple[str, str]] = [("the cat sat", "a b"), ("x", "return x on the mat")]
    for texts in (TEXTS, pairs):
        expected = theirs(texts, padding=True, truncation=model_max_length < 100, return_tensors="pt")
        batch = ours.batch(texts)
        assert set(batch) == set(expected)
        for name, tensor in batch.items():
            assert torch.equal(tensor, expected[name])


def test_the_length_that_is_asked_for_goes_before_the_checkpoints(wordpiece: Tokenizer) -> None:
    tokenizer = with_config(wordpiece, model_max_length=6)
    assert tokenizer.batch(TEXTS)["input_ids"].shape[1] == 6
    assert tokenizer.batch(TEXTS, max_length=4)["input_ids"].shape[1] == 4
    assert tokenizer.batch(TEXTS, max_length=7)["input_ids"].shape[1] == 7


@pytest.mark.parametrize(("model_max_length", "kept"), [(5, "the cat sat"), (1e30, "the cat sat on the mat")])
def test_predictions_read_no_more_than_the_checkpoint_says(
    wordpiece: Tokenizer, model_max_length: float, kept: str
) -> None:
    spec = zoo.encoders.Bert
    head = zoo.heads.SequenceClassification(labels=["a", "b"])
    model = EncoderModule(backbone=spec(**{**spec.tiny, "vocab_size": 60}), head=head)
    model.build()
    model.tokenizer = with_config(wordpiece, model_max_length=model_max_length)
    assert model.predict(["the cat sat on the mat"]) == model.predict([kept])
    assert (model.predict(["the cat sat"]) == model.predict(["the cat sat on the mat"])) is (
        kept == "the cat sat"
    )


def test_cutting_a_batch_leaves_the_tokenizer_as_it_was(wordpiece: Tokenizer) -> None:
    before = wordpiece.backend.to_str()
    ids = wordpiece.encode(TEXTS[0])
    wordpiece.batch(TEXTS, max_length=3)
    assert wordpiece.backend.to_str() == before
    assert wordpiece.encode(TEXTS[0]) == ids


def test_a_length_without_room_for_the_special_tokens_is_refused(wordpiece: Tokenizer) -> None:
    assert wordpiece.batch(["a"], max_length=2)["input_ids"].tolist() == [[2, 3]]
    with pytest.raises(DataError) as caught:
        wordpiece.batch(["a", ("a", "b")], max_length=2)
    assert str(caught.value) == (
        "rows of 2 tokens have no room for the tokenizer's 3 special tokens\n"
        "  at    max_length\n"
        "  set it to at least 3"
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, True),
        ({"model_input_names": ["input_ids", "attention_mask"]}, False),
        ({"model_input_names": ["input_ids", "token_type_ids"]}, True),
        ({"model_input_names": None, "sep_token": None}, False),
        ({"model_input_names": None}, True),
    ],
)
def test_segments_are_told_where_the_files_say_so(
    wordpiece: Tokenizer, config: dict[str, Any], expected: bool
) -> None:
    assert ("token_type_ids" in with_config(wordpiece, **config).batch(["a"])) is expected


def test_a_tokenizer_without_a_pad_token_fills_with_zeros_that_the_mask_hides() -> None:
    batch = train("bpe", TEXTS, 300).batch(["a", "a b c"])
    assert (batch["input_ids"][0, 1:] == 0).all()
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert set(batch) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    "config",
    [
        {"additional_special_tokens": ["cat", {"content": "mat"}]},
        {"additional_special_tokens": None, "extra_special_tokens": ["mat", "cat"]},
        {"extra_special_tokens": ["cat", "mat"]},
        {"extra_special_tokens": {"image_token": "cat", "audio_token": {"content": "mat"}}},
    ],
)
def test_additional_special_tokens_are_special(config: dict[str, Any]) -> None:
    trained = train("bpe", ["cat mat" * 5], 280)
    trained.backend.add_tokens(["cat", "mat"])
    tokenizer = with_config(trained, add_bos_token=True, **config)
    cat, mat = (tokenizer.backend.token_to_id(token) for token in ("cat", "mat"))
    assert tokenizer.special_ids == {0, cat, mat}
    assert tokenizer.num_bytes()[cat] == tokenizer.num_bytes()[mat] == 0
    named = isinstance(config.get("extra_special_tokens"), dict)
    assert tokenizer.special_id("image_token") == (cat if named else None)
    assert tokenizer.special_id("add_bos_token") is None
