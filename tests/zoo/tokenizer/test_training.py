"""Tokenizers that are trained here: what they keep of a text, what they lose, and who else reads them."""

import inspect
import textwrap
from pathlib import Path

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.tokenizer import Tokenizer, train

CODE = "class Café(Base):\n    def f(self, x):\n\tif x:\n        return x  # naïve 🦙\n\n\n"
TEXTS = [CODE, "the cat sat on the mat\n" * 5, inspect.getsource(textwrap)]
KINDS = ["bpe", "wordpiece", "unigram"]
LOSSLESS = ["bpe", "unigram"]
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {kind: train(kind, TEXTS, 600) for kind in KINDS}


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(deadline=None, max_examples=100, derandomize=True)
@given(text=any_text | st.just(CODE) | st.text("<unkpad/s>▁#Ġ \n\t"))
def test_any_text_comes_back_and_every_byte_is_counted(
    trained: dict[str, Tokenizer], kind: str, text: str
) -> None:
    tokenizer = trained[kind]
    ids = tokenizer.encode(text, special=False)
    assert tokenizer.decode(ids, skip_special=False) == text
    sizes = tokenizer.num_bytes()
    assert sum(sizes[token] for token in ids) == len(text.encode())
    assert not tokenizer.special_ids & {*ids}


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_repeatable(trained: dict[str, Tokenizer], kind: str) -> None:
    assert train(kind, TEXTS, 600).to_plain() == trained[kind].to_plain()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [TEXTS, ["a"], ["", "é"], ["".join(map(chr, range(256, 2048)))]])
@pytest.mark.parametrize("vocab_size", [259, 300])
def test_the_vocabulary_is_at_most_as_large_as_asked(kind: str, texts: list[str], vocab_size: int) -> None:
    assert train(kind, texts, vocab_size).vocab_size <= vocab_size


@pytest.mark.parametrize("kind", KINDS)
def test_frequent_words_become_few_tokens(trained: dict[str, Tokenizer], kind: str) -> None:
    assert len(trained[kind].encode("the cat sat on the mat", special=False)) <= 12


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_count_no_byte(trained: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = trained[kind]
    names = {
        "bpe": {"bos_token": 0, "eos_token": 0},
        "wordpiece": {"pad_token": 0, "unk_token": 1, "cls_token": 2, "sep_token": 3, "mask_token": 4},
        "unigram": {"pad_token": 0, "eos_token": 1, "unk_token": 2},
    }[kind]
    assert {name: tokenizer.special_id(name) for name in names} == names
    assert tokenizer.special_ids == {*names.values()}
    sizes = tokenizer.num_bytes()
    assert [number for number, size in enumerate(sizes) if size == 0] == sorted(tokenizer.special_ids)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_what_is_trained(trained: dict[str, Tokenizer], kind: str, tmp_path: Path) -> None:
    tokenizer = trained[kind]
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    plain = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in (*TEXTS, "  two  spaces", "unheard-of: ☃", ""):
        ids = tokenizer.encode(text)
        assert theirs(text)["input_ids"] == plain(text)["input_ids"] == ids
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    for name in ("bos", "eos", "pad", "unk", "cls", "sep", "mask"):
        assert getattr(theirs, f"{name}_token_id") == tokenizer.special_id(f"{name}_token")


@pytest.mark.parametrize("kind", KINDS)
def test_files_go_round(trained: dict[str, Tokenizer], kind: str, tmp_path: Path) -> None:
    trained[kind].save(tmp_path)
    loaded = Tokenizer.from_folder(tmp_path)
    assert loaded is not None
    assert loaded.to_plain() == trained[kind].to_plain()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the cat sat", "the cat sat"),
        ("    return  x\n", "return x"),
        ("f(x)", "f ( x )"),
        ("the\x00 cat", "the cat"),
        ("☃", "[UNK]"),
        ("a" * 101, "[UNK]"),
    ],
)
def test_what_a_wordpiece_loses(trained: dict[str, Tokenizer], text: str, expected: str) -> None:
    tokenizer = trained["wordpiece"]
    assert tokenizer.decode(tokenizer.encode(text, special=False), skip_special=False) == expected


@settings(deadline=None, max_examples=50, derandomize=True)
@given(words=st.lists(st.text("abcdefrtuvé(x)+:", min_size=1, max_size=8), min_size=1, max_size=6))
def test_a_wordpiece_counts_every_byte_but_white_space(
    trained: dict[str, Tokenizer], words: list[str]
) -> None:
    tokenizer = trained["wordpiece"]
    sizes = tokenizer.num_bytes()
    ids = tokenizer.encode(" ".join(words))
    assert sum(sizes[token] for token in ids) == len("".join(words).encode())


def test_a_wordpiece_keeps_case_and_accents(trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained["wordpiece"]
    assert tokenizer.decode(tokenizer.encode("Café naïve")) == "Café naïve"


def test_special_tokens_stand_where_the_papers_put_them(trained: dict[str, Tokenizer]) -> None:
    pair = ("the", "mat")
    first, second = (trained["wordpiece"].encode(text, special=False) for text in pair)
    batch = trained["wordpiece"].batch([pair])
    assert batch["input_ids"].tolist() == [[2, *first, 3, *second, 3]]
    assert batch["token_type_ids"].tolist() == [[0] * (len(first) + 2) + [1] * (len(second) + 1)]
    assert trained["unigram"].encode("the") == [*trained["unigram"].encode("the", special=False), 1]
    assert set(trained["unigram"].batch([pair])) == {"input_ids", "attention_mask"}
