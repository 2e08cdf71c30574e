"""A tokenizer, with what the checkpoint's files say around it."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from zoo.errors import CheckpointError
from zoo.tokenizer import END, Tokenizer, train_byte_level_bpe

TEXTS = ["the cat sat on the mat\n" * 3, "def f(x):\n    return x\n" * 3, "über 🦙\n"]
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_byte_level_bpe(TEXTS, 320)


def with_a_start(tokenizer: Tokenizer) -> Tokenizer:
    """As Llama 3's: the same words, and a token before each text."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 0)])
    return Tokenizer(backend, tokenizer.config)


def sentence_pieces() -> Tokenizer:
    """As Llama 2's: spaces as ▁, bytes where a character is unknown."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", "t", "h", "e", "▁t", "he", "▁the", "c", "a", "▁c", "at", "▁cat"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁", "c"), ("a", "t"), ("▁c", "at")]
    backend = tokenizers.Tokenizer(
        models.BPE({token: index for index, token in enumerate(tokens)}, merges, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return Tokenizer(backend, {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}})


# A byte-level BPE that is trained here


@settings(deadline=None, max_examples=100, derandomize=True)
@given(text=any_text)
def test_any_text_comes_back_and_every_byte_is_counted(trained: Tokenizer, text: str) -> None:
    ids = trained.encode(text, special=False)
    assert trained.decode(ids, skip_special=False) == text
    sizes = trained.num_bytes()
    assert sum(sizes[token] for token in ids) == len(text.encode())


def test_the_vocabulary_is_at_most_as_large_as_asked(trained: Tokenizer) -> None:
    assert 257 < trained.vocab_size <= 320
    assert train_byte_level_bpe(["a"], 8192).vocab_size == 257
    assert trained.num_bytes()[trained.backend.token_to_id(END)] == 0


def test_training_is_repeatable(trained: Tokenizer) -> None:
    assert train_byte_level_bpe(TEXTS, 320).backend.to_str() == trained.backend.to_str()


def test_frequent_words_become_few_tokens(trained: Tokenizer) -> None:
    assert len(trained.encode(" the cat sat on the mat")) < 10


def test_transformers_reads_what_is_trained(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (*TEXTS, "  two  spaces", f"a{END}b"):
        assert theirs(text)["input_ids"] == trained.encode(text)
        assert theirs.decode(trained.encode(text)) == trained.decode(trained.encode(text), skip_special=False)
    assert theirs.eos_token_id == trained.special_id("eos_token")


# Encoding


@pytest.mark.parametrize("special", [True, False])
def test_a_batch_is_encoded_as_each_text_alone(trained: Tokenizer, special: bool) -> None:
    tokenizer = with_a_start(trained)
    texts = [*TEXTS, "", f"a{END}b"]
    expected = [tokenizer.encode(text, special=special) for text in texts]
    assert tokenizer.encode_batch(texts, special=special) == expected


def test_special_tokens_stand_around_a_text_where_they_are_asked_for(trained: Tokenizer) -> None:
    tokenizer = with_a_start(trained)
    bare = trained.encode("the cat")
    assert tokenizer.encode("the cat") == [0, *bare]
    assert tokenizer.encode("the cat", special=False) == bare


def test_a_special_token_in_a_document_is_text(trained: Tokenizer) -> None:
    assert trained.encode(f"a{END}")[-1] == 0
    ids = trained.encode(f"a{END}", special=False)
    assert 0 not in ids
    assert trained.decode(ids) == f"a{END}"


def test_decoding_leaves_special_tokens_out_unless_asked(trained: Tokenizer) -> None:
    ids = [0, *trained.encode("cat"), 0]
    assert trained.decode(ids) == "cat"
    assert trained.decode(ids, skip_special=False) == f"{END}cat{END}"


# Bytes


def test_bytes_of_sentence_pieces_count_a_piece_as_its_text() -> None:
    tokenizer = sentence_pieces()
    sizes = tokenizer.num_bytes()
    for text in ("the cat", " the  cat", "über the 🦙"):
        ids = tokenizer.encode(text, special=False)
        # The space that is put before a text is no text.
        assert sum(sizes[token] for token in ids) == len(text.encode()) + 1
    assert [sizes[token] for token in range(3)] == [0, 0, 0]


def test_added_tokens_that_are_not_special_count_as_the_text_they_are() -> None:
    backend = tokenizers.Tokenizer.from_str(train_byte_level_bpe(TEXTS, 300).backend.to_str())
    backend.add_tokens(["    ", "é🦙"])  # as runs of spaces in GPT-NeoX
    tokenizer = Tokenizer(backend)
    ids = tokenizer.encode("x    é🦙", special=False)
    assert len(ids) == 3
    assert sum(tokenizer.num_bytes()[token] for token in ids) == len("x    é🦙".encode())


# Special ids


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"eos_token": END}, 0),
        ({"eos_token": {"content": END, "lstrip": False}}, 0),
        ({"eos_token": None}, None),
        ({}, None),
        ({"eos_token": "<unheard-of>"}, None),
    ],
)
def test_special_ids_are_read_as_text_or_as_an_object(
    trained: Tokenizer, config: dict[str, Any], expected: int | None
) -> None:
    assert Tokenizer(trained.backend, config).special_id("eos_token") == expected


def test_ids_with_gaps_are_counted_to_the_last() -> None:
    backend = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 7}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    assert Tokenizer(backend).vocab_size == 8
    assert Tokenizer(backend).num_bytes() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert Tokenizer(tokenizers.Tokenizer(models.BPE())).vocab_size == 0


# Files and plain values


def test_files_go_round(trained: Tokenizer, tmp_path: Path) -> None:
    tokenizer = Tokenizer(trained.backend, {**trained.config, "note": "ü"}, "{{ messages }}\n")
    tokenizer.save(tmp_path)
    loaded = Tokenizer.from_folder(tmp_path)
    assert loaded is not None
    assert loaded.to_plain() == tokenizer.to_plain()
    assert {path.name for path in tmp_path.iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    assert "ü" in (tmp_path / "tokenizer_config.json").read_text("utf-8")


def test_plain_values_go_round(trained: Tokenizer) -> None:
    plain = json.loads(json.dumps(trained.to_plain()))
    assert Tokenizer.from_plain(plain).to_plain() == trained.to_plain()
    del plain["chat_template"]  # as in checkpoints from before there was one
    assert Tokenizer.from_plain(plain).to_plain() == trained.to_plain()


def test_a_folder_without_a_tokenizer_gives_none(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert Tokenizer.from_folder(tmp_path) is None


def test_a_tokenizer_without_its_config_is_read(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    loaded = Tokenizer.from_folder(tmp_path)
    assert loaded is not None
    assert loaded.config == {}
    assert loaded.special_id("eos_token") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", "[1]"),
    ],
)
def test_files_that_cannot_be_read_are_refused(
    trained: Tokenizer, tmp_path: Path, name: str, content: str
) -> None:
    trained.save(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.from_folder(tmp_path)
    assert caught.value.message.startswith(f"the tokenizer in {tmp_path} cannot be read: ")
