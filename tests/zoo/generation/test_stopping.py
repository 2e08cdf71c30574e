"""Texts that come token by token, and what ends them."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import GenerationError
from zoo.generation.stopping import RowText, Spelling, Stop
from zoo.tokenizer import Tokenizer, train_byte_level_bpe

TEXT = "the cat sat on the mat, the dog ran to the sun; ümlaut and 🦙 too.\n" * 5
many = settings(deadline=None, max_examples=100, derandomize=True)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_byte_level_bpe([TEXT], 300)


@pytest.fixture(scope="module", params=["llama2", "t5", "gpt2"])
def real(request: pytest.FixtureRequest, shared: Path) -> Tokenizer:
    folder = shared / "checkpoints" / "tokenizers" / request.param
    if request.param == "gpt2":
        vocab, merges = folder / "encoder.json", folder / "vocab.bpe"
        backend = tokenizers.ByteLevelBPETokenizer.from_file(str(vocab), str(merges))
        return Tokenizer(tokenizers.Tokenizer.from_str(backend.to_str()))
    found = Tokenizer.from_folder(folder)
    assert found is not None
    return found


def spelled(decode: Callable[[Sequence[int]], str], before: list[int], new: list[int]) -> list[str]:
    spelling = Spelling(decode, before)
    return [*(spelling.add([token]) for token in new), spelling.end()]


@many
@given(text=any_text, cut=st.integers(0, 30))
def test_pieces_join_to_what_decoding_at_once_gives(tokenizer: Tokenizer, text: str, cut: int) -> None:
    ids = tokenizer.encode(text)
    before, new = ids[:cut], ids[cut:]
    whole = tokenizer.decode(ids)[len(tokenizer.decode(before)) :]
    pieces = spelled(tokenizer.decode, before, new)
    if not tokenizer.decode(before).endswith("\N{REPLACEMENT CHARACTER}"):
        assert "".join(pieces) == whole
        at_once = Spelling(tokenizer.decode, before)
        assert at_once.add(new) + at_once.end() == whole


@many
@given(data=st.lists(st.integers(0, 299), max_size=25))
def test_any_ids_of_bytes_join_as_well(tokenizer: Tokenizer, data: list[int]) -> None:
    assert "".join(spelled(tokenizer.decode, [], data)) == tokenizer.decode(data)


@many
@given(text=any_text, cut=st.integers(0, 8))
def test_pieces_of_real_tokenizers_join_to_the_whole(real: Tokenizer, text: str, cut: int) -> None:
    ids = real.encode(f"the cat {text}", special=False)
    before, new = ids[:2], ids[2:]
    whole = real.decode(ids)[len(real.decode(before)) :]
    assert "".join(spelled(real.decode, before, new)) == whole


def test_no_half_character_is_spelled(tokenizer: Tokenizer) -> None:
    pieces = spelled(tokenizer.decode, [], tokenizer.encode("é🦙 ∀"))
    assert "".join(pieces) == "é🦙 ∀"
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_a_character_that_is_never_finished_is_spelled_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🥝")[:-1]
    assert len(ids) > 1
    assert spelled(tokenizer.decode, [], ids)[-1] == tokenizer.decode(ids) != ""


def test_only_the_newest_tokens_are_decoded(tokenizer: Tokenizer) -> None:
    lengths = []

    def decode(ids: Sequence[int]) -> str:
        lengths.append(len(ids))
        return tokenizer.decode(ids)

    spelled(decode, [], tokenizer.encode(TEXT))
    assert max(lengths) < 12


# Stops

letters = st.text("abc", max_size=20)
stops = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3)


def up_to_a_stop(text: str, stops: list[str]) -> str:
    """By trying every end."""
    for end in range(len(text) + 1):
        found = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: min(found)]
    return text


@many
@given(text=letters, stops=stops, cuts=st.sets(st.integers(0, 20)))
def test_a_text_ends_before_its_first_stop_however_it_comes_in_pieces(
    text: str, stops: list[str], cuts: set[int]
) -> None:
    stop, shown, places = Stop(stops), "", sorted(cuts | {0, len(text)})
    expected = up_to_a_stop(text, stops)
    for start, end in pairwise(places):
        shown += stop.add(text[start:end])
        assert expected.startswith(shown)
    assert stop.is_reached == (expected != text)
    assert shown + stop.end() == expected


def test_only_what_may_begin_a_stop_is_held_back() -> None:
    stop = Stop(["END", "\n\n"])
    assert [stop.add(piece) for piece in ("a", "\nb", "E", "N", "T ", "\n", "\nc", "d")] == [
        "a",
        "\nb",
        "",
        "",
        "ENT ",
        "",
        "",
        "",
    ]
    assert stop.is_reached
    assert stop.end() == ""


def test_a_rows_text_takes_all_its_ids_each_time(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the cat sat on the mat, the dog")
    text = RowText(tokenizer.decode, stop=["t, th"])
    pieces = []
    for number in range(1, len(ids) + 1):
        pieces.append(text.read(ids[:number]))
        if text.is_stopped:
            break
    assert number < len(ids)
    assert text.end() == ""
    assert "".join(pieces) == str(text) == "the cat sat on the ma"


def test_a_rows_text_may_be_read_at_once(tokenizer: Tokenizer) -> None:
    text = RowText(tokenizer.decode, tokenizer.encode("the"), ["zebra"])
    shown = text.read(tokenizer.encode(" cat sat on the z"))
    assert (shown, text.end(), text.is_stopped) == (" cat sat on the ", "z", False)
    assert str(text) == " cat sat on the z"


def test_an_empty_stop_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(GenerationError) as caught:
        RowText(tokenizer.decode, stop=["a", ""])
    assert str(caught.value) == "a text to stop at must not be empty"
