"""Batches of packed documents and pairs, and of so many tokens, as the data classes make them."""

import json
import random
from itertools import chain, pairwise
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import zoo
from zoo.data import Text, TextClassification, TextPairs
from zoo.errors import DataError, SpecError
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule

WORDS = ["the", "cat", "dog", "sat", "on", "mat", "ran", "to", "a", "red", "sun"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Texts of one to forty words, each with another text and a label."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("texts") / "rows.jsonl"
    with path.open("w") as file:
        for number in range(120):
            text = " ".join(draw.choices(WORDS, k=draw.randint(1, 40))) + f" {number}"
            row = {
                "text": text,
                "input": text,
                "target": text.upper()[: draw.randint(1, 60)],
                "label": number % 3,
            }
            file.write(json.dumps(row) + "\n")
    return str(path)


def text_of(source: str, **choices: Any) -> Text:
    data = Text(source=source, vocab_size=300, sequence_length=64, batch_size=4, **choices)
    data.setup("fit")
    return data


def documents_of(batch: Batch, name: str = "input_ids", mask: str = "attention_mask") -> list[list[int]]:
    """The ids of each document of each row."""
    return [
        ids[numbers == number].tolist()
        for ids, numbers in zip(batch[name], batch[mask], strict=True)
        for number in range(1, int(numbers.max()) + 1)
    ]


def test_packed_rows_hold_the_documents_whole_between_their_ends(source: str) -> None:
    data = text_of(source, packing=True)
    batches = list(data.train_dataloader())
    found = list(chain(*map(documents_of, batches)))
    tokenizer = data._tokenizer
    assert tokenizer is not None
    end = tokenizer.special_id("eos_token")
    texts = [document.text for document in data.documents()[0]]
    whole = [[end, *ids, end] for ids in tokenizer.encode_batch(texts, special=False)]
    short = [ids for ids in whole if len(ids) <= 64]
    assert len(short) > 50
    cut = [
        piece
        for ids in whole
        if len(ids) > 64
        for piece in (ids[at : at + 64] for at in range(0, len(ids) - 1, 63))
    ]
    assert len(found) >= 0.9 * len(whole)
    expected = [*short, *cut]
    for ids in found:
        expected.remove(ids)
    for batch in batches:
        assert batch["input_ids"].shape[0] <= 4
        assert batch["input_ids"].shape[1] <= 64
    real = sum(int((batch["attention_mask"] > 0).sum()) for batch in batches)
    assert real / sum(batch["input_ids"].numel() for batch in batches) > 0.9


def test_each_token_but_a_pieces_first_is_foretold_once(source: str) -> None:
    data = text_of(source, packing=True)
    for batch in (*data.train_dataloader(), *data.val_dataloader()):
        begins = batch["attention_mask"] != torch.nn.functional.pad(batch["attention_mask"][:, :-1], (1, 0))
        has_label = (batch["attention_mask"] > 0) & ~begins
        assert batch["labels"].equal(batch["input_ids"].where(has_label, IGNORED))
    held_out = "".join(document.text for document in data.documents()[1])
    assert sum(int(batch["num_bytes"].sum()) for batch in data.val_dataloader()) == len(held_out.encode())


def test_joined_and_packed_rows_are_measured_on_the_same_text(source: str) -> None:
    sizes = [
        sum(int(batch["num_bytes"].sum()) for batch in text_of(source, packing=packing).val_dataloader())
        for packing in (True, False)
    ]
    assert sizes[0] == sizes[1] > 0


def test_a_packed_batch_has_the_loss_of_its_documents_apart(source: str) -> None:
    batch = next(iter(text_of(source, packing=True).train_dataloader()))
    module = zoo.modules.DecoderModule(zoo.decoders.Llama(**{**zoo.decoders.Llama.tiny, "vocab_size": 300}))
    module.build()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    head = module.head()
    packed = head.loss(module.hidden_states(batch), batch)
    totals = []
    for ids in documents_of(batch):
        alone = {"input_ids": torch.tensor([ids]), "labels": torch.tensor([ids])}
        totals.append(head.loss(module.hidden_states(alone), alone))
    assert packed.num_labels == sum(loss.num_labels for loss in totals)
    assert_close(packed.total, torch.stack([loss.total for loss in totals]).sum(), rtol=1e-5, atol=1e-5)


def masked_module() -> ZooModule:
    sizes = {**zoo.encoders.Bert.tiny, "vocab_size": 300, "pad_token_id": 0}
    made: ZooModule = zoo.modules.EncoderModule(zoo.encoders.Bert(**sizes), zoo.heads.MaskedLM())
    return made


def test_hidden_tokens_of_packed_rows_are_real_ones(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Text(
        source=source, tokenizer="wordpiece", vocab_size=300, sequence_length=64, batch_size=4, packing=True
    )
    monkeypatch.setattr(Text, "model", property(lambda self: masked_module()))
    data.setup("fit")
    held_out = [list(data.val_dataloader()) for _ in range(2)]
    for batch, again in zip(*held_out, strict=True):
        assert batch["input_ids"].equal(again["input_ids"])
        assert (batch["labels"] != IGNORED).any()
        assert (batch["attention_mask"][batch["labels"] != IGNORED] > 0).all()
    for batch in data.train_dataloader():
        assert (batch["attention_mask"][batch["labels"] != IGNORED] > 0).all()
        assert batch["attention_mask"].max() > 1


def pairs_of(source: str, **choices: Any) -> TextPairs:
    data = TextPairs(source=source, tokenizer="bpe", vocab_size=300, max_length=64, batch_size=4, **choices)
    data.setup("fit")
    return data


def test_packed_pairs_stand_side_by_side_in_both_rows(source: str) -> None:
    plain, packed = pairs_of(source), pairs_of(source, row_tokens=128)
    expected = set()
    for batch in plain.train_dataloader():
        for ids, real, labels in zip(
            batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
        ):
            expected.add((*ids[real > 0].tolist(), "→", *labels[labels != IGNORED].tolist()))
    found = []
    for batch in packed.train_dataloader():
        assert max(batch["input_ids"].shape[1], batch["labels"].shape[1]) <= 128
        read, written = documents_of(batch), documents_of(batch, "labels", "decoder_attention_mask")
        found += [(*ids, "→", *labels) for ids, labels in zip(read, written, strict=True)]
    assert len(set(found)) == len(found)
    assert len(set(found) - expected) <= 4  # what waited in the one epoch, not in the other
    assert len(found) > 0.9 * len(expected)


def test_packed_pairs_have_the_loss_of_each_apart(source: str) -> None:
    data = pairs_of(source, row_tokens=128)
    sizes = {**zoo.encoder_decoders.Transformer.tiny, "vocab_size": 300, "max_position_embeddings": 128}
    module = zoo.modules.EncoderDecoderModule(zoo.encoder_decoders.Transformer(**sizes))
    module.build()
    module.eval()
    head = module.head()
    batch = next(iter(data.train_dataloader()))
    packed = head.loss(module.hidden_states(batch), batch)
    total = torch.zeros(())
    pairs = zip(documents_of(batch), documents_of(batch, "labels", "decoder_attention_mask"), strict=True)
    for read, written in pairs:
        alone = {"input_ids": torch.tensor([read]), "labels": torch.tensor([written])}
        total = total + head.loss(module.hidden_states(alone), alone).total
    assert_close(packed.total, total, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", [TextPairs, TextClassification])
def test_a_batch_holds_no_more_tokens_than_asked(kind: Any, source: str) -> None:
    data = kind(source=source, tokenizer="bpe", vocab_size=300, max_length=64, batch_tokens=256)
    data.setup("fit")
    rows = [batch["input_ids"].shape for batch in data.train_dataloader()]
    assert max(height * width for height, width in rows) <= 256
    training = data.examples()[0]
    assert sum(height for height, _ in rows) == len(training)
    assert len({height for height, _ in rows}) > 1


@pytest.mark.parametrize(
    ("kind", "choice"),
    [(TextPairs, "batch_tokens"), (TextPairs, "row_tokens"), (TextClassification, "batch_tokens")],
)
def test_a_text_must_fit(kind: Any, choice: str, source: str) -> None:
    with pytest.raises(SpecError, match=f"^`{choice}` must be at least 64, got 63"):
        kind(source=source, max_length=64, **{choice: 63})


def test_too_little_for_a_batch_of_packed_rows_is_said(source: str) -> None:
    data = Text(source=source, vocab_size=300, sequence_length=64, batch_size=1000, packing=True)
    data.setup("fit")
    with pytest.raises(DataError) as caught:
        data.train_dataloader()
    assert caught.value.message.endswith("rows, a batch takes 1000")


def test_a_packed_run_goes_on_where_it_was_left(source: str) -> None:
    whole = [batch["input_ids"].tolist() for batch in text_of(source, packing=True).train_dataloader()]
    left, again = text_of(source, packing=True), text_of(source, packing=True)
    batches = iter(left.train_dataloader())
    assert [next(batches)["input_ids"].tolist() for _ in range(3)] == whole[:3]
    again.load_state_dict(json.loads(json.dumps(left.state_dict())))
    assert [batch["input_ids"].tolist() for batch in again.train_dataloader()] == whole[3:]
    assert all(one != other for one, other in pairwise(whole))
