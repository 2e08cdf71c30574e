"""Documents to rows: split, tokens, bytes, cache, baselines."""

import gzip
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.data import Text
from zoo.data import base as base_data
from zoo.data.base import trained_tokenizer
from zoo.data.caching import cache_folder
from zoo.data.reading import Document
from zoo.data.splitting import split
from zoo.data.text import Rows
from zoo.errors import DataError, SpecError
from zoo.layers import IGNORED
from zoo.modules import DecoderModule
from zoo.tokenizer import Tokenizer, train_byte_level_bpe

Write = Callable[..., Path]
SIZES: dict[str, Any] = {"vocab_size": 300, "sequence_length": 16, "batch_size": 4}


def made(source: Path, **choices: Any) -> Any:
    data = Text(source=str(source), **{**SIZES, "validation_fraction": 0.2, **choices})
    data.setup("fit")
    return data


def documents(*texts: str) -> list[Document]:
    return [Document(text, f"file {index}") for index, text in enumerate(texts)]


# The split

many = st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=40).filter(
    lambda texts: len(set(texts)) > 1
)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(texts=many, fraction=st.floats(0.05, 0.95), data=st.data())
def test_every_document_is_wholly_on_one_side(texts: list[str], fraction: float, data: st.DataObject) -> None:
    training, held_out = split(documents(*texts), fraction)
    assert sorted(document.place for document in (*training, *held_out)) == sorted(
        f"file {index}" for index in range(len(texts))
    )
    assert training
    assert held_out
    assert not {document.text for document in training} & {document.text for document in held_out}
    again = split(data.draw(st.permutations(documents(*texts))), fraction)
    assert {document.text for document in again[1]} == {document.text for document in held_out}


def test_about_the_asked_share_is_held_out_and_more_text_moves_no_document() -> None:
    texts = [f"document {index}" for index in range(2000)]
    held_out = {document.text for document in split(documents(*texts), 0.1)[1]}
    assert 140 < len(held_out) < 260
    fewer = {document.text for document in split(documents(*texts[:500]), 0.1)[1]}
    assert fewer == held_out & set(texts[:500])


def test_of_a_single_document_the_end_is_held_out_from_a_line_on() -> None:
    text = "".join(f"line {index}\n" for index in range(100))
    (training,), (held_out,) = split(documents(text), 0.1)
    assert training.text + held_out.text == text
    assert training.text.endswith("\n")
    assert held_out.text.startswith("line 9")
    assert 0.08 < len(held_out.text) / len(text) < 0.13


def test_of_a_single_line_the_end_is_held_out() -> None:
    (training,), (held_out,) = split(documents("0123456789"), 0.25)
    assert (training.text, held_out.text) == ("0123456", "789")


@pytest.mark.parametrize("texts", [["a"], ["same", "same"], ["same"] * 9])
def test_what_cannot_be_split_is_refused(texts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        split(documents(*texts), 0.3)
    assert str(caught.value) == (
        "the text cannot be split with 0.3 held out; different documents: 1\n"
        "  give more text, another validation_fraction, or a source for validation"
    )


def test_a_source_for_validation_is_held_out_whole(sources: Write) -> None:
    training, validation = sources(5), sources(3, seed=1, name="more")
    data = made(training, validation=str(validation))
    assert [len(part) for part in data.documents()] == [5, 3]


# Rows


def all_rows(rows: Rows) -> list[dict[str, torch.Tensor]]:
    return [rows[index] for index in range(len(rows))]


@settings(deadline=None, max_examples=100, derandomize=True)
@given(number=st.integers(2, 60), length=st.integers(2, 20))
def test_each_token_but_the_first_is_predicted_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, number: int, length: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "tokens.npy"
    tokens = np.arange(number, dtype=np.int32)
    np.save(path, tokens)
    rows = all_rows(Rows(path, np.ones(number, dtype=np.int32), length, 99))
    predicted, pairs = [], []
    for row in rows:
        assert row["input_ids"].shape == row["labels"].shape == (length,)
        assert row["input_ids"].dtype == row["labels"].dtype == torch.int64
        real = row["labels"] != IGNORED
        assert torch.equal(row["input_ids"][real], row["labels"][real])
        assert (row["input_ids"][~real] == 99).all()
        labels = row["labels"][1:][real[1:]].tolist()
        predicted += labels
        pairs += list(zip(row["input_ids"][:-1].tolist(), labels, strict=False))
        assert row["num_bytes"] == len(labels)
        assert labels, "a row that predicts nothing"
    assert predicted == list(range(1, number))
    assert all(before + 1 == after for before, after in pairs)


def test_fewer_than_two_tokens_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "tokens.npy", np.zeros(1, dtype=np.int32))
    with pytest.raises(DataError, match=r"^1 tokens are too few to learn from$"):
        Rows(tmp_path / "tokens.npy", np.ones(1), 8, 0)


@pytest.mark.parametrize("length", [2, 7, 16, 500])
def test_the_bytes_of_rows_are_those_of_the_held_out_text(sources: Write, length: int) -> None:
    source = sources()
    (source / "tricky.txt").write_text("a <|endoftext|> in a text, tabs\t\t, \u2028 and é 🦙\n" * 3)
    for data in (made(source, sequence_length=length), made(source, validation=str(source / "tricky.txt"))):
        for rows, part in zip((data.training_rows, data.validation_rows), data.documents(), strict=True):
            expected = sum(len(document.text.encode()) for document in part)
            assert sum(int(row["num_bytes"]) for row in all_rows(rows)) == expected


def test_rows_read_as_the_documents_with_an_end_around_each(sources: Write) -> None:
    data = made(sources(6))
    tokenizer = trained_tokenizer("bpe", [document.text for document in data.documents()[0]], 300)
    end = tokenizer.special_id("eos_token")
    assert end is not None
    for rows, part in zip((data.training_rows, data.validation_rows), data.documents(), strict=True):
        whole = tokenizer.decode(rows.tokens.tolist(), skip_special=False)
        texts = [document.text for document in part]
        assert whole == "<|endoftext|>" + "".join(f"{text}<|endoftext|>" for text in texts)


def test_a_loop_over_all_rows_ends(sources: Write) -> None:
    rows = made(sources(6)).training_rows
    assert sum(1 for _, _ in zip(rows, range(len(rows) + 1), strict=False)) == len(rows)
    with pytest.raises(IndexError):
        rows[-1]


def test_batches_have_the_asked_shape_and_training_has_no_broken_one(sources: Write) -> None:
    data = made(sources())
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.training_rows) // 4
    for batch in batches:
        assert batch["input_ids"].shape == batch["labels"].shape == (4, 16)
        assert batch["num_bytes"].shape == (4,)
    held_out = list(data.val_dataloader())
    assert sum(len(batch["input_ids"]) for batch in held_out) == len(data.validation_rows)
    assert [batch["input_ids"].tolist() for batch in data.test_dataloader()] == [
        batch["input_ids"].tolist() for batch in held_out
    ]


def test_the_seed_decides_the_order_and_each_epoch_has_its_own(sources: Write) -> None:
    source = sources()

    def epochs(seed: int) -> list[list[Any]]:
        torch.manual_seed(torch.randint(10**6, ()).item())  # nothing else does
        loader = made(source, seed=seed).train_dataloader()
        return [[batch["input_ids"].tolist() for batch in loader] for _ in range(2)]

    first = epochs(0)
    assert first == epochs(0)
    assert first[0] != first[1]
    assert first != epochs(1)


def test_prompts_are_the_openings_of_held_out_documents(sources: Write) -> None:
    data = made(sources())
    prompts = [text for batch in data.predict_dataloader() for text in batch["prompts"]]
    assert len(prompts) == len(data.documents()[1])
    for prompt, document in zip(prompts, data.documents()[1], strict=True):
        assert document.text.startswith(prompt)
        assert prompt
        assert prompt.count(" ") <= 15


def test_a_text_shorter_than_a_batch_is_refused_for_training_alone(sources: Write) -> None:
    data = made(sources(3), batch_size=500)
    with pytest.raises(DataError) as caught:
        data.train_dataloader()
    assert str(caught.value) == (
        f"the data to train on makes {len(data.training_rows)} rows, a batch takes 500\n"
        "  at    data.batch_size\n"
        "  give more text, or a smaller batch_size"
    )
    assert len(list(data.val_dataloader())) == 1


# The cache


def test_what_was_made_is_used_again_and_other_content_makes_it_anew(
    sources: Write, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sources()
    calls: Counter[str] = Counter()
    train, encode = base_data.train, Tokenizer.encode_batch
    monkeypatch.setattr(base_data, "train", lambda *given: (calls.update(["train"]), train(*given))[1])
    monkeypatch.setattr(
        Tokenizer,
        "encode_batch",
        lambda self, texts, **choices: (calls.update(["encode"]), encode(self, texts, **choices))[1],
    )
    first = made(source)
    assert calls == {"train": 1, "encode": 2}
    names = {path.name for path in own_cache.iterdir()}
    assert len(names) == 3
    again = made(source, sequence_length=9, batch_size=2)  # which change no token
    assert calls == {"train": 1, "encode": 2}
    assert np.array_equal(first.training_rows.tokens, again.training_rows.tokens)
    (source / "000.txt").rename(source / "renamed.txt")
    order = made(source)
    assert sorted(order.training_rows.tokens) == sorted(first.training_rows.tokens)
    calls.clear()
    (source / "001.txt").write_text("other words\n")
    made(source)
    assert calls["train"] == 1
    calls.clear()
    made(source, vocab_size=280)
    assert calls["train"] == 1
    assert names < {path.name for path in own_cache.iterdir()}


@pytest.mark.parametrize("failing", ["shutil.copyfileobj", "zoo.tokenizer.Tokenizer.save"])
def test_a_write_that_fails_leaves_nothing_in_the_cache(
    sources: Write, own_cache: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sources()

    def full(*given: Any) -> None:
        folder = next((value for value in given if isinstance(value, Path)), None)
        if folder is None:
            given[-1].write(b"half")
        else:
            (folder / "half").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(failing, full)
        with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device$"):
            made(source)
    assert {path.name.partition("-")[0] for path in own_cache.iterdir()} <= {"bpe"}
    assert len(list(made(source).train_dataloader())) > 0


def test_another_process_that_was_faster_is_no_hindrance(
    sources: Write, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sources()
    expected = made(source).training_rows.tokens.tolist()
    before = {path.name for path in own_cache.iterdir()}
    real = Path.exists
    blind = {own_cache / name for name in before}

    def late(path: Path, **choices: Any) -> bool:
        if path in blind:  # as if it came up right after the look
            blind.remove(path)
            return False
        return real(path, **choices)

    monkeypatch.setattr(Path, "exists", late)
    assert made(source).training_rows.tokens.tolist() == expected
    assert {path.name for path in own_cache.iterdir()} == before


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ZOO_CACHE": "/somewhere"}, "/somewhere"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/lightning-zoo"),
        ({"HOME": "/home/me"}, "/home/me/.cache/lightning-zoo"),
    ],
)
def test_the_cache_lies_where_the_user_says(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ZOO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


# Baselines


def test_baselines_equal_an_independent_computation(sources: Write) -> None:
    data = made(sources())
    training, held_out = data.documents()
    tokenizer = trained_tokenizer("bpe", [document.text for document in training], 300)
    end = tokenizer.special_id("eos_token")
    counts = Counter(dict.fromkeys(range(tokenizer.vocab_size), 1))
    counts[end] += 1  # before the first document
    for document in training:
        counts.update([*tokenizer.backend.encode(document.text).ids, end])
    total = sum(counts.values())
    bits = 0.0
    for document in held_out:
        for token in (*tokenizer.backend.encode(document.text).ids, end):
            bits -= math.log2(counts[token] / total)
    raw = b"".join(document.text.encode() for document in held_out)
    assert data.baselines() == {
        "unigram": pytest.approx(bits / len(raw)),
        "gzip -9": pytest.approx(8 * len(gzip.compress(raw, compresslevel=9)) / len(raw)),
    }


# With a model


def trained(data: Any, **sizes: Any) -> DecoderModule:
    llama = zoo.decoders.Llama
    module = DecoderModule(backbone=llama(**{**llama.tiny, "vocab_size": 300, **sizes}))
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        max_steps=1,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    return module


def untouched(source: Path, **choices: Any) -> Any:
    return Text(source=str(source), **{**SIZES, "validation_fraction": 0.2, **choices})


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_the_tokenizer_that_the_recipe_trains_is_saved_with_the_model(sources: Write, tmp_path: Path) -> None:
    source = sources()
    module = trained(untouched(source))
    zoo.save(module, tmp_path / "model")
    loaded = zoo.load(tmp_path / "model")
    assert loaded.tokenizer is not None
    assert module.tokenizer is not None
    assert loaded.tokenizer.to_plain() == module.tokenizer.to_plain()
    saved = json.loads((tmp_path / "model" / "config.json").read_text())
    assert saved["eos_token_id"] is not None


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_a_model_with_a_tokenizer_keeps_it(sources: Write, tmp_path: Path) -> None:
    source = sources()
    zoo.save(trained(untouched(source)), tmp_path / "model")
    other = sources(30, seed=9, name="other")
    data = untouched(other, vocab_size=8192)  # which counts only where a tokenizer is trained
    module = DecoderModule(backbone=zoo.specs.HubModel(str(tmp_path / "model")))
    data.trainer = type("Trainer", (), {"lightning_module": module})()
    data.setup("fit")
    tokenizer = zoo.load(tmp_path / "model").tokenizer
    assert tokenizer is not None
    ids = data.training_rows.tokens.tolist()
    assert tokenizer.decode(ids) == "".join(document.text for document in data.documents()[0])


def test_a_tokenizer_without_an_end_is_refused(sources: Write) -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    llama = zoo.decoders.Llama
    module = DecoderModule(backbone=llama(**llama.tiny))
    module.adopt_tokenizer(Tokenizer(backend))
    data = untouched(sources())
    data.trainer = type("Trainer", (), {"lightning_module": module})()
    with pytest.raises(DataError) as caught:
        data.setup("fit")
    assert str(caught.value) == "the model's tokenizer has no `eos_token` to stand between documents"


def test_rows_longer_than_the_model_sees_are_refused() -> None:
    llama = zoo.decoders.Llama
    with pytest.raises(SpecError) as caught:
        Text(source="x", vocab_size=257, sequence_length=65).require_fit(
            DecoderModule(llama(**{**llama.tiny, "vocab_size": 300}))
        )
    assert str(caught.value) == (
        "rows of 65 tokens are too long for a model that sees 64\n"
        "  at    data.sequence_length\n"
        "  set it to at most 64, or the backbone's max_position_embeddings"
    )


def test_a_tokenizer_larger_than_the_backbone_is_refused_before_it_is_trained() -> None:
    llama = zoo.decoders.Llama
    data = Text(source="x", sequence_length=64, vocab_size=300)
    with pytest.raises(SpecError) as caught:
        data.require_fit(DecoderModule(llama(**llama.tiny)))
    assert str(caught.value) == (
        "a tokenizer of 300 ids is too large for a backbone of 96\n"
        "  at    data.vocab_size\n"
        "  set it to at most 96, or the backbone's vocab_size"
    )
    model = DecoderModule(llama(**llama.tiny))
    model.tokenizer = train_byte_level_bpe(["a"], 257)
    data.require_fit(model)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            {"validation_fraction": 0.0},
            "`validation_fraction` must lie between 0 and 1, got 0.0\n  at    validation_fraction",
        ),
        (
            {"validation_fraction": 1},
            "`validation_fraction` must lie between 0 and 1, got 1\n  at    validation_fraction",
        ),
        ({"sequence_length": 1}, "`sequence_length` must be at least 2, got 1\n  at    sequence_length"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0\n  at    batch_size"),
        ({"vocab_size": 256}, "`vocab_size` must be at least 257, got 256\n  at    vocab_size"),
        ({"num_workers": -1}, "`num_workers` must be at least 0, got -1\n  at    num_workers"),
    ],
)
def test_sizes_that_make_no_rows_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        Text(source="x", **choices)
    assert str(caught.value) == message
