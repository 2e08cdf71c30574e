"""Hiding tokens."""

import pytest
import torch

from zoo.data.masking import Masking
from zoo.data.text import Text
from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.tokenizer import Tokenizer, train

from .conftest import Write


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train("wordpiece", ["the cat sat on the mat and the dog ran to a red sun"] * 3, 90)


def rows(tokenizer: Tokenizer, number: int, length: int = 64) -> list[Batch]:
    ids = torch.randint(0, tokenizer.vocab_size, (number, length))
    return [{"input_ids": row, "labels": row, "num_bytes": torch.tensor(1)} for row in ids]


def test_of_hidden_tokens_eight_in_ten_are_masked_one_is_another_one_stays(tokenizer: Tokenizer) -> None:
    given = rows(tokenizer, 2000)
    before = torch.stack([row["input_ids"] for row in given])
    batch = Masking(tokenizer, 0.15)(given)
    hidden, after = batch["labels"] != IGNORED, batch["input_ids"]
    special = torch.isin(before, torch.tensor(sorted(tokenizer.special_ids)))
    assert not (hidden & special).any()
    assert (after == before)[~hidden].all()
    assert (batch["labels"] == before)[hidden].all()
    num_hidden, mask_id = int(hidden.sum()), tokenizer.special_id("mask_token")
    assert num_hidden / int((~special).sum()) == pytest.approx(0.15, abs=0.005)
    masked, same = after == mask_id, after == before
    random_hits = 0.1 / tokenizer.vocab_size  # another token drawn may be the mask, or the same
    assert int((masked & hidden).sum()) / num_hidden == pytest.approx(0.8 + random_hits, abs=0.015)
    assert int((same & hidden).sum()) / num_hidden == pytest.approx(0.1 + random_hits, abs=0.01)
    drawn = after[hidden & ~masked & ~same]
    assert drawn.unique().numel() >= tokenizer.vocab_size - 1


def test_a_seed_hides_the_same_tokens_of_a_row_whatever_stands_beside_it(tokenizer: Tokenizer) -> None:
    given, masking = rows(tokenizer, 8), Masking(tokenizer, 0.15, seed=3)
    whole, turned = masking(given), masking(given[::-1])
    for name in ("input_ids", "labels"):
        assert torch.equal(whole[name], turned[name].flip(0))
        assert torch.equal(whole[name][2:3], masking(given[2:3])[name])
    places = {tuple(row.tolist()) for row in whole["labels"] != IGNORED}
    assert len(places) == 8  # each row has places of its own
    assert not torch.equal(Masking(tokenizer, 0.15, seed=4)(given)["labels"], whole["labels"])


def test_without_a_seed_each_draw_is_another(tokenizer: Tokenizer) -> None:
    given, masking = rows(tokenizer, 8), Masking(tokenizer, 0.15)
    assert not torch.equal(masking(given)["labels"], masking(given)["labels"])


def test_padding_is_neither_hidden_nor_seen(tokenizer: Tokenizer) -> None:
    given = rows(tokenizer, 2, 400)
    masking = Masking(tokenizer, 0.5)
    assert masking(given).keys() == {"input_ids", "labels"}
    given[1]["labels"] = given[1]["labels"].clone()
    given[1]["labels"][200:] = IGNORED
    batch = masking(given)
    assert (batch["labels"][1, 200:] == IGNORED).all()
    assert batch["attention_mask"].tolist() == [[1] * 400, [1] * 200 + [0] * 200]


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        Masking(train("bpe", ["the cat"], 300), 0.15)
    assert str(caught.value) == (
        "the tokenizer has no `mask_token` to hide tokens with\n  use data.tokenizer: wordpiece"
    )


def test_without_a_masked_head_nothing_is_hidden(sources: Write) -> None:
    data = Text(source=str(sources()), vocab_size=300, sequence_length=16, batch_size=4)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(batch["labels"], batch["input_ids"])


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_whole_words_are_asked_for_or_left(kind: str) -> None:
    text = "the catastrophes sat on unbelievable mats and the dogs ran to redder suns " * 12
    tokenizer = train(kind, [text], 50 if kind == "wordpiece" else 280)
    if tokenizer.special_id("mask_token") is None:
        tokenizer = tokenizer.with_special_tokens({"mask_token": "<mask>"})
    ids = torch.tensor(tokenizer.encode(text, special=False))
    begins = torch.tensor(tokenizer.begins_word())[ids]
    begins[0] = True
    words = begins.cumsum(0)
    shares = []
    for seed in range(40):
        row = {"input_ids": ids, "labels": ids}
        hidden = Masking(tokenizer, 0.15, seed, whole_words=True)([row])["labels"][0] != IGNORED
        for word in words.unique():
            assert hidden[words == word].unique().numel() == 1
        shares.append(hidden.double().mean().item())
    assert words.max() < len(ids)  # there are words of several tokens
    assert sum(shares) / len(shares) == pytest.approx(0.15, abs=0.03)
