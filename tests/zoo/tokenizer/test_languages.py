"""Languages that a token around each text tells, against transformers' tokenizers and models of them."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from transformers import MBart50Tokenizer, MBartConfig, MBartForConditionalGeneration, MBartTokenizer

import zoo
from zoo.data.samples import write_records
from zoo.errors import DataError
from zoo.layers import IGNORED
from zoo.tokenizer import Tokenizer

KINDS = [MBartTokenizer, MBart50Tokenizer]
TEXTS = ["abc de", "ha", "d e f a b"]
Make = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A folder with a model and such a tokenizer, and both as transformers has them."""

    def make(kind: Any, **config: Any) -> tuple[Path, Any, Any]:
        start = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
        letters = [(f"{space}{letter}", -5.0) for space in ("", "▁") for letter in "abcdefgh"]
        codes = [(code, 0.0) for code in ("en_XX", "ro_RO", "de_DE")]
        known = {"src_lang": "en_XX", "tgt_lang": "ro_RO"}
        tokenizer = kind(vocab=[*start, *letters, *codes, ("<mask>", 0.0)], **known)
        sizes = MBartConfig(
            vocab_size=len(tokenizer), d_model=32, encoder_ffn_dim=40, decoder_ffn_dim=40, encoder_layers=1,
            decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, init_std=0.5,
            max_position_embeddings=64, **config,
        )  # fmt: skip
        torch.manual_seed(0)
        model = MBartForConditionalGeneration(sizes).eval()
        for part in (model, tokenizer):
            part.save_pretrained(tmp_path)
        return tmp_path, model, tokenizer

    return make


def read(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer is not None
    return tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_framed_as_by_transformers(make: Make, kind: Any) -> None:
    folder, _, theirs = make(kind)
    ours = read(folder)
    assert ours.language == "en_XX"
    assert ours.begins_with_language == (kind is MBart50Tokenizer)
    for source, target in (("en_XX", "ro_RO"), ("de_DE", "en_XX")):
        theirs.src_lang, theirs.tgt_lang = source, target
        chosen = ours.in_languages(source, target)
        assert chosen.encode_batch(TEXTS) == theirs(TEXTS).input_ids
        assert chosen.encode_targets(TEXTS, 9) == theirs(text_target=TEXTS).input_ids
        assert Tokenizer.from_plain(chosen.to_plain()).encode_targets(TEXTS, 9) == (
            theirs(text_target=TEXTS).input_ids
        )


def test_a_long_text_keeps_its_language(make: Make) -> None:
    ours = read(make(MBartTokenizer)[0])
    (ids,) = ours.encode_targets(["abcdefgh"], 5)
    assert [ours.backend.id_to_token(number) for number in ids] == ["▁a", "b", "c", "</s>", "ro_RO"]


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_teach_a_language_in_which_the_model_then_writes(make: Make, kind: Any, tmp_path: Path) -> None:
    folder, model, theirs = make(kind)
    letters = itertools.permutations("abcd", 3)
    source = write_records(tmp_path, [{"input": " ".join(some), "target": "".join(some)} for some in letters])
    data = zoo.data.TextPairs(
        source, input_language="de_DE", target_language="en_XX", batch_size=3,
        max_length=20, validation_fraction=0.4,
    )  # fmt: skip
    ours = zoo.modules.EncoderDecoderModule(zoo.specs.HubModel(str(folder)))
    trainer = L.Trainer(max_steps=0, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path)  # fmt: skip
    trainer.fit(ours, datamodule=data)
    theirs.src_lang, theirs.tgt_lang = "de_DE", "en_XX"
    examples = data.examples()[0][:3]
    batch = data.collate(examples)
    expected = theirs([pair.input for pair in examples], text_target=[pair.target for pair in examples])
    real = [
        ids[: int(mask.sum())].tolist()
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert real == expected.input_ids
    assert [row[row != IGNORED].tolist() for row in batch["labels"]] == expected.labels
    number = theirs.convert_tokens_to_ids("en_XX")
    leads = kind is MBart50Tokenizer
    told = {"forced_bos_token_id" if leads else "decoder_start_token_id": number}
    assert ours.generation_config.items() >= told.items()
    if leads:
        told["decoder_start_token_id"] = 2
    written = model.generate(**theirs(TEXTS, return_tensors="pt", padding=True), **told, max_new_tokens=8)
    assert ours.generate(TEXTS, max_new_tokens=8) == theirs.batch_decode(written, skip_special_tokens=True)


def test_a_language_that_is_unknown_is_refused(make: Make, tmp_path: Path) -> None:
    ours = read(make(MBartTokenizer)[0])
    with pytest.raises(DataError) as caught:
        ours.in_languages(target="xx_XX")
    assert caught.value.message == (
        "the model's tokenizer has no token `xx_XX`, so it can read no text as `xx_XX`"
    )


def test_a_tokenizer_without_languages_is_told() -> None:
    with pytest.raises(DataError) as caught:
        zoo.tokenizer.train("unigram", TEXTS, 300).in_languages(source="en_XX")
    assert caught.value.message == (
        "the model's tokenizer says no languages, so it can read no text as `en_XX`"
    )
