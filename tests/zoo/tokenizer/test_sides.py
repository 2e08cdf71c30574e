"""Tokenizers with a SentencePiece model for each side, against transformers' own reader of them."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, MarianConfig, MarianMTModel

import zoo
from zoo.errors import CheckpointError
from zoo.tokenizer import Tokenizer
from zoo.tokenizer.sides import FILES

sentencepiece = pytest.importorskip("sentencepiece")

READ = ["the cat sat on the mat", "a dog and a cat", "the dog sat there", "on a mat", "dogs and cats, too"]
WRITTEN = ["die Katze saß auf der Matte", "ein Hund und eine Katze", "der Hund saß dort", "Hunde & Katzen"]
OTHERS = [" two  spaces ", "", "日本", "the 日 cat"]
TEXTS = [*READ, *OTHERS, "a ß", "cat</s>dog", "ｃat\tmat"]
Make = Callable[..., Path]


def trained(texts: list[str], kind: str) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=45, model_type=kind,
        bos_id=-1, hard_vocab_limit=False, minloglevel=2, normalization_rule_name="nmt_nfkc",
    )  # fmt: skip
    return model.getvalue()


def pieces(model: bytes) -> list[str]:
    reader = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [reader.id_to_piece(number) for number in range(reader.get_piece_size())]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A folder in the Hub's form."""

    def make(kind: str = "unigram", *, is_shared: bool = True) -> Path:
        models = {"source.spm": trained(READ, kind), "target.spm": trained(WRITTEN, kind)}
        for name, model in models.items():
            (tmp_path / name).write_bytes(model)
        read, written = ([piece for piece in pieces(model) if piece[0] != "<"] for model in models.values())
        lists = {"vocab.json": [*read, *written, ">>de<<"] if is_shared else read}
        config: dict[str, Any] = {"tokenizer_class": "MarianTokenizer", "source_lang": "en"}
        if not is_shared:
            lists["target_vocab.json"] = written
            config["separate_vocabs"] = True
        for name, some in lists.items():
            tokens = dict.fromkeys(["</s>", "<unk>", "<pad>", *some])
            numbered = {token: number for number, token in enumerate(tokens)}
            (tmp_path / name).write_text(json.dumps(numbered), "utf-8")
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
        (tmp_path / "config.json").write_text('{"model_type": "marian"}', "utf-8")
        return tmp_path

    return make


def read(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer is not None
    return tokenizer


pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("is_shared", [True, False])
def test_both_sides_are_read_and_written_as_by_transformers(make: Make, kind: str, is_shared: bool) -> None:
    folder = make(kind, is_shared=is_shared)
    ours, theirs = read(folder), AutoTokenizer.from_pretrained(folder)
    texts = [*TEXTS, ">>de<< the cat"] if is_shared else TEXTS
    assert ours.encode_batch(texts) == theirs(texts).input_ids
    targets = [*WRITTEN, *OTHERS]
    assert ours.encode_targets(targets, 99) == theirs(text_target=targets).input_ids
    every = [[number] for number in range(ours.of_targets.vocab_size)]
    for ids in [*theirs(text_target=targets).input_ids, *every]:
        assert ours.of_targets.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_several_characters_of_the_other_side_alone_are_read_one_by_one(make: Make) -> None:
    ours, theirs = read(make()), AutoTokenizer.from_pretrained(make())
    assert [ours.backend.id_to_token(number) for number in ours.encode("ßß")] == ["▁", "ß", "ß", "</s>"]
    assert theirs.convert_ids_to_tokens(theirs("ßß").input_ids) == ["▁", "<unk>", "</s>"]


def test_what_is_saved_is_the_same_for_everyone(make: Make, tmp_path: Path) -> None:
    ours = read(make())
    (tmp_path / "again").mkdir()
    ours.save(tmp_path / "again")
    for name in FILES[:3]:
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    (tmp_path / "again/config.json").write_text('{"model_type": "marian"}', "utf-8")
    again, theirs = read(tmp_path / "again"), AutoTokenizer.from_pretrained(tmp_path / "again")
    torch.save(ours.to_plain(), tmp_path / "plain.pt")
    kept = Tokenizer.from_plain(torch.load(tmp_path / "plain.pt", weights_only=True))
    for other in (again, kept):
        assert other.encode_batch(TEXTS) == ours.encode_batch(TEXTS) == theirs(TEXTS).input_ids
        assert other.encode_targets(TEXTS, 9) == ours.encode_targets(TEXTS, 9)
    assert kept.files == ours.files


def test_a_missing_side_is_told(make: Make) -> None:
    folder = make()
    (folder / "target.spm").unlink()
    with pytest.raises(CheckpointError) as caught:
        read(folder)
    assert str(caught.value) == f"{folder} has a source.spm, but no target.spm"


def test_a_list_with_holes_is_refused(make: Make) -> None:
    folder = make()
    (folder / "vocab.json").write_text('{"</s>": 0, "<unk>": 2}', "utf-8")
    with pytest.raises(CheckpointError) as caught:
        read(folder)
    assert str(caught.value) == f"{folder / 'vocab.json'} does not number a vocabulary from 0 on"


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_folder_in_the_hubs_form_translates_as_with_transformers(make: Make, is_shared: bool) -> None:
    folder = make(is_shared=is_shared)
    theirs = AutoTokenizer.from_pretrained(folder)
    sizes = {"vocab_size": len(theirs.get_src_vocab()), "pad_token_id": 2, "eos_token_id": 0}
    if not is_shared:
        sizes |= {"decoder_vocab_size": len(theirs.target_encoder), "share_encoder_decoder_embeddings": False}
    config = MarianConfig(
        **sizes, d_model=32, encoder_ffn_dim=40, decoder_ffn_dim=40, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=64,
        decoder_start_token_id=2, forced_eos_token_id=0, init_std=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MarianMTModel(config).eval()
    model.save_pretrained(folder)
    batch = theirs(READ, return_tensors="pt", padding=True)
    choices = {"num_beams": 2, "max_new_tokens": 8}
    written = model.generate(**batch, **choices)
    expected = [theirs.decode(row, skip_special_tokens=True) for row in written]
    assert len(set(expected)) > 1
    ours = zoo.load(folder)
    assert ours.generate(READ, **choices) == expected
    zoo.save(ours, folder / "ours")
    assert zoo.load(folder / "ours").generate(READ, **choices) == expected
    again = AutoTokenizer.from_pretrained(folder / "ours")
    assert again(READ).input_ids == theirs(READ).input_ids
