"""Tokenizers as the Hub's repositories hold them, against published ids and the readers of others."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers

from zoo.errors import CheckpointError
from zoo.tokenizer import Tokenizer, train

sentencepiece = pytest.importorskip("sentencepiece")

TEXTS = ["Hello world", " two  spaces ", "a\n\n  b\tc", "Füh­rer 🦙 ½ 工作", "", "x <s> </s> y"]
HINT = "let transformers write a tokenizer.json: AutoTokenizer.from_pretrained(name).save_pretrained(folder)"
Copy = Callable[..., Path]


@pytest.fixture
def copy(shared: Path, tmp_path: Path) -> Copy:
    """A folder with these of the real tokenizers' files, and others as JSON."""

    def make(files: dict[str, str], **others: Any) -> Path:
        for name, source in files.items():
            shutil.copy(shared / "checkpoints/tokenizers" / source, tmp_path / name)
        for name, value in others.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(value), "utf-8")
        return tmp_path

    return make


def read(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer is not None
    return tokenizer


def message(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.from_folder(folder)
    return str(caught.value).replace(str(folder), "FOLDER")


GPT2 = {"encoder.json": "gpt2/encoder.json", "vocab.bpe": "gpt2/vocab.bpe"}
GPT2_AS_ON_THE_HUB = {"vocab.json": "gpt2/encoder.json", "merges.txt": "gpt2/vocab.bpe"}
BERT = {"vocab.txt": "bert-uncased/vocab.txt"}
LLAMA = {"tokenizer.model": "llama2/tokenizer.model"}
T5 = {"spiece.model": "t5/spiece.model"}
SMALL = {"tokenizer.model": "sentencepiece-test/test_model.model"}


# Published ids


def vectors(shared: Path, name: str) -> list[tuple[str, list[int]]]:
    folder = shared / "checkpoints/tokenizers/vectors"
    texts = (folder / f"{name}.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")
    ids = (folder / f"{name}.out").read_text("utf-8").split("\n")
    assert len(texts) == len(ids) == 47
    return [(text, [int(number) for number in row.split()]) for text, row in zip(texts, ids, strict=True)]


@pytest.mark.parametrize(
    ("name", "files"),
    [("gpt-2", GPT2), ("gpt-2", GPT2_AS_ON_THE_HUB), ("bert-bge", BERT), ("llama-spm", LLAMA)],
)
def test_the_published_ids_come_out(shared: Path, copy: Copy, name: str, files: dict[str, str]) -> None:
    tokenizer = read(copy(files))
    for text, ids in vectors(shared, name):
        assert tokenizer.encode(text, special=False) == ids, text


def test_robertas_published_ids_are_gpt2s_pieces_under_other_numbers(shared: Path, copy: Copy) -> None:
    # Its vocabulary is not at hand, its merges are those of GPT-2.
    tokenizer = read(copy(GPT2))
    pairs = {
        (ours, theirs)
        for text, ids in vectors(shared, "roberta-bpe")
        for ours, theirs in zip(tokenizer.encode(text, special=False), ids, strict=True)
    }
    assert len(pairs) == len({ours for ours, _ in pairs}) == len({theirs for _, theirs in pairs}) > 150


def test_the_ids_in_t5s_documentation_come_out(copy: Copy) -> None:
    ids = [13959, 1566, 12, 2968, 10, 466, 19, 207, 5, 1]
    assert read(copy(T5)).encode("translate English to German: That is good.") == ids


# Other readers


@pytest.mark.parametrize("files", [LLAMA, T5, SMALL])
def test_sentencepiece_itself_gives_the_same_ids_and_texts(
    shared: Path, copy: Copy, files: dict[str, str]
) -> None:
    folder = copy(files)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / next(iter(files))))
    ours = read(folder)
    texts = [text for name in ("llama-spm", "gpt-2") for text, _ in vectors(shared, name)]
    for text in [*texts, *Path(__file__).read_text("utf-8").splitlines(), "  a   b  ", "①②㌀ ﬁ\r\n"]:
        ids = theirs.encode(text)
        # Special tokens that a text spells are text to theirs alone.
        if not any(token in text for token in ("<s>", "</s>", "<unk>", "<pad>")):
            assert ours.encode(text, special=False) == ids, text
        if theirs.unk_id() not in ids:
            assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize(
    ("files", "config", "model_type"),
    [
        (GPT2_AS_ON_THE_HUB, {"tokenizer_class": "GPT2Tokenizer"}, "gpt2"),
        (GPT2_AS_ON_THE_HUB, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}, "gpt2"),
        (BERT, {"tokenizer_class": "BertTokenizer"}, "bert"),
        (BERT, {"tokenizer_class": "BertTokenizer", "do_lower_case": False}, "bert"),
        (BERT, {"tokenizer_class": "BertTokenizer", "tokenize_chinese_chars": False}, "bert"),
        (BERT, {"tokenizer_class": "BertTokenizer", "strip_accents": False}, "bert"),
        (T5, {"tokenizer_class": "T5Tokenizer"}, "t5"),
    ],
)
def test_transformers_reads_the_same_from_the_raw_files(
    copy: Copy, files: dict[str, str], config: dict[str, Any], model_type: str
) -> None:
    folder = copy(files, tokenizer_config=config, config={"model_type": model_type})
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = read(folder)
    assert len(theirs) == ours.vocab_size
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"], text
    pair = ("Hello", "there you")
    expected = theirs(*pair)
    assert {name: rows[0].tolist() for name, rows in ours.batch([pair]).items()} == dict(expected)


@pytest.mark.parametrize("files", [GPT2, BERT, LLAMA, T5, SMALL])
def test_what_was_converted_is_saved_as_files_that_transformers_loads(
    copy: Copy, tmp_path_factory: pytest.TempPathFactory, files: dict[str, str]
) -> None:
    ours = read(copy(files))
    folder = tmp_path_factory.mktemp("saved")
    ours.save(folder)
    assert read(folder).to_plain() == ours.to_plain()
    assert Tokenizer.from_plain(ours.to_plain()).to_plain() == ours.to_plain()
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        ids = ours.encode(text)
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)
    for name in ("bos", "eos", "pad", "unk", "cls", "sep", "mask"):
        assert getattr(theirs, f"{name}_token_id") == ours.special_id(f"{name}_token")


@pytest.mark.parametrize("folder", ["all-MiniLM-L6-v2", "stories260K/hf"])
def test_real_checkpoints_agree_with_transformers(shared: Path, folder: str) -> None:
    path = shared / "checkpoints" / folder
    theirs = transformers.AutoTokenizer.from_pretrained(path)
    ours = read(path)
    assert ours.backend.padding is None
    assert ours.backend.truncation is None
    for text in [*TEXTS, "long " * 600]:
        assert ours.encode(text) == theirs(text, truncation=False, verbose=False)["input_ids"]
    assert ours.batch(["long " * 600])["input_ids"].shape == (1, 512)
    for name in ("bos", "eos", "pad", "unk", "cls", "sep", "mask"):
        assert getattr(theirs, f"{name}_token_id") == ours.special_id(f"{name}_token")
    if theirs.pad_token_id is not None:
        texts = [("a cat", "the mat"), ("a much longer text", "x")]
        expected = theirs(texts, padding=True, return_tensors="pt")
        assert {name: rows.tolist() for name, rows in ours.batch(texts).items()} == {
            name: rows.tolist() for name, rows in expected.items()
        }


# Bytes


@pytest.mark.parametrize(("files", "added"), [(GPT2, 0), (LLAMA, 1)])
def test_the_bytes_of_lossless_kinds_sum_up(
    shared: Path, copy: Copy, files: dict[str, str], added: int
) -> None:
    tokenizer = read(copy(files))
    sizes = tokenizer.num_bytes()
    for text, _ in vectors(shared, "gpt-2"):
        ids = tokenizer.encode(text)
        # Llama's puts a space before each text.
        assert sum(sizes[token] for token in ids) == len(text.encode()) + (added if text else 0)
    assert not any(sizes[token] for token in tokenizer.special_ids)


@pytest.mark.parametrize(("files", "text", "bytes_"), [(BERT, "unaffable cats", 13), (T5, "good Käse", 11)])
def test_the_bytes_of_words_sum_up(copy: Copy, files: dict[str, str], text: str, bytes_: int) -> None:
    tokenizer = read(copy(files))
    sizes = tokenizer.num_bytes()
    assert sum(sizes[token] for token in tokenizer.encode(text)) == bytes_
    assert [sizes[token] for token in tokenizer.special_ids] == [0] * len(tokenizer.special_ids)


# Special tokens


def test_t5s_sentinels_stand_after_the_pieces_the_first_of_them_last(copy: Copy) -> None:
    tokenizer = read(copy(T5))
    assert tokenizer.vocab_size == 32100
    assert tokenizer.backend.token_to_id("<extra_id_0>") == 32099
    assert tokenizer.backend.token_to_id("<extra_id_99>") == 32000
    assert tokenizer.encode("a <extra_id_0>")[-2:] == [32099, 1]


@pytest.mark.parametrize(
    "config",
    [{"extra_ids": 2}, {"additional_special_tokens": ["<extra_id_0>", "<extra_id_1>"]}],
)
def test_as_many_sentinels_are_made_as_the_files_say(copy: Copy, config: dict[str, Any]) -> None:
    tokenizer = read(copy(T5, tokenizer_config=config))
    assert tokenizer.vocab_size == 32002
    assert tokenizer.backend.token_to_id("<extra_id_0>") == 32001


@pytest.mark.parametrize(
    ("config", "start", "end"),
    [
        ({}, [1], []),
        ({"add_bos_token": False}, [], []),
        ({"add_eos_token": True}, [1], [2]),
    ],
)
def test_llamas_files_say_what_stands_around_a_text(
    copy: Copy, config: dict[str, Any], start: list[int], end: list[int]
) -> None:
    tokenizer = read(copy(LLAMA, tokenizer_config=config))
    bare = tokenizer.encode("Hello", special=False)
    assert tokenizer.encode("Hello") == [*start, *bare, *end]
    assert "token_type_ids" not in tokenizer.batch([("Hello", "you")])


def test_llamas_space_is_put_after_special_tokens_unless_the_files_say_otherwise(copy: Copy) -> None:
    def pieces(**config: Any) -> list[str]:
        tokenizer = read(copy(LLAMA, tokenizer_config=config))
        return [str(tokenizer.backend.id_to_token(number)) for number in tokenizer.encode("a</s>b")]

    assert pieces() == ["<s>", "▁a", "</s>", "▁b"]
    assert pieces(legacy=False) == ["<s>", "▁a", "</s>", "b"]


def test_added_tokens_of_old_checkpoints_are_read(copy: Copy) -> None:
    folder = copy(
        LLAMA, added_tokens={"<pad>": 32001, "<note>": 32000}, special_tokens_map={"pad_token": "<pad>"}
    )
    tokenizer = read(folder)
    assert tokenizer.special_id("pad_token") == 32001
    assert tokenizer.encode("<note> <pad>", special=False)[:1] == [32000]
    assert 32001 in tokenizer.special_ids
    assert 32000 not in tokenizer.special_ids
    assert tokenizer.num_bytes()[32000:] == [6, 0]


def test_added_tokens_of_the_configuration_are_read(copy: Copy) -> None:
    added = {"50257": {"content": "<|im_start|>", "special": True, "lstrip": False}}
    tokenizer = read(copy(GPT2, tokenizer_config={"added_tokens_decoder": added}))
    assert tokenizer.encode("<|im_start|>") == [50257]


def test_an_added_token_with_another_id_than_it_should_have_is_refused(copy: Copy) -> None:
    assert message(copy(GPT2, added_tokens={"<pad>": 50300})) == (
        "the added token <pad> should have the id 50300, but comes out as 50257"
    )


def test_old_files_name_special_tokens_in_a_file_of_their_own(tmp_path: Path) -> None:
    train("bpe", ["a cat"], 260).save(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": {"content": "a"}, "eos_token": "c"}')
    tokenizer = read(tmp_path)
    assert tokenizer.special_id("pad_token") == tokenizer.backend.token_to_id("a")
    assert tokenizer.special_id("eos_token") == tokenizer.backend.token_to_id("c")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "added_tokens_decoder": {}}))
    assert read(tmp_path).special_id("pad_token") is None


def test_padding_and_truncation_of_tokenizer_json_are_moved_to_the_configuration(tmp_path: Path) -> None:
    tokenizer = train("wordpiece", ["a cat"], 40)
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.enable_padding(direction="left", pad_token="[PAD]", length=16)
    backend.enable_truncation(4, direction="left")
    Tokenizer(backend).save(tmp_path)
    loaded = read(tmp_path)
    assert loaded.config == {"padding_side": "left", "pad_token": "[PAD]", "truncation_side": "left"}
    assert loaded.encode("a cat a cat") == tokenizer.encode("a cat a cat")


# RoBERTa and OPT: byte-level BPE with fairseq's special tokens


def write_bpe(folder: Path, **config: Any) -> Path:
    trained = json.loads(train("bpe", ["the cat sat"] * 3, 270).backend.to_str())["model"]
    pieces = [piece for piece in trained["vocab"] if piece != "<|endoftext|>"]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *pieces, "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    merges = "".join(" ".join(pair) + "\n" for pair in trained["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_fairseqs_special_tokens_stand_around_texts(tmp_path: Path) -> None:
    folder = write_bpe(tmp_path, tokenizer_class="RobertaTokenizer")
    theirs = transformers.RobertaTokenizer.from_pretrained(folder)
    ours = read(folder)
    for text in ("the cat", " sat<mask> the", "é"):
        assert ours.encode(text) == theirs(text)["input_ids"]
    # As in the published tokenizer.json; transformers 5 forgets it where it converts.
    assert ours.encode(" sat <mask>") == ours.encode(" sat<mask>")
    pair = ("the cat", "sat")
    assert {name: rows[0].tolist() for name, rows in ours.batch([pair]).items()} == dict(theirs(*pair))
    for name in ("bos", "eos", "pad", "unk", "cls", "sep", "mask"):
        assert getattr(theirs, f"{name}_token_id") == ours.special_id(f"{name}_token")


def test_a_start_alone_stands_before_texts_where_the_files_say_so(tmp_path: Path) -> None:
    folder = write_bpe(tmp_path, add_bos_token=True, bos_token="</s>", eos_token="</s>")
    tokenizer = read(folder)
    assert tokenizer.encode("the cat") == [2, *tokenizer.encode("the cat", special=False)]


# fairseq's dictionary over a SentencePiece model, as XLM-R has it

FAIRSEQ = {"sentencepiece.bpe.model": "sentencepiece-test/test_model.model"}


def test_fairseqs_ids_are_those_of_its_dictionary(copy: Copy) -> None:
    folder = copy(FAIRSEQ, config={"model_type": "xlm-roberta", "vocab_size": 1002})
    theirs = transformers.XLMRobertaTokenizer.from_pretrained(folder)
    ours = read(folder)
    for text in ("I saw a girl with a telescope.", "x <mask> y", "é"):
        assert ours.encode(text) == theirs(text)["input_ids"]
    pair = ("a girl", "saw")
    assert {name: rows[0].tolist() for name, rows in ours.batch([pair]).items()} == dict(theirs(*pair))
    for name in ("bos", "eos", "pad", "unk", "cls", "sep", "mask"):
        assert getattr(theirs, f"{name}_token_id") == ours.special_id(f"{name}_token")


def test_a_dictionary_of_another_size_is_refused(copy: Copy) -> None:
    assert message(copy(FAIRSEQ, config={"vocab_size": 1027})) == (
        "FOLDER/sentencepiece.bpe.model makes 1002 ids, but config.json says 1027, "
        f"so other tokens are among them\n  {HINT}"
    )


# What is not read


def test_a_model_needs_the_extra_that_reads_it(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    assert message(copy(T5)) == (
        "FOLDER/spiece.model is a SentencePiece model, which the extra `sentencepiece` reads\n"
        "  pip install 'lightning-zoo[sentencepiece]'"
    )


def test_a_file_that_is_no_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")  # tiktoken's
    assert message(tmp_path) == f"FOLDER/tokenizer.model is no SentencePiece model, or is cut off\n  {HINT}"


def test_a_model_that_is_cut_off_is_refused(copy: Copy) -> None:
    path = copy(T5) / "spiece.model"
    path.write_bytes(path.read_bytes()[:5000])
    assert message(path.parent) == f"FOLDER/spiece.model is no SentencePiece model, or is cut off\n  {HINT}"


def test_a_model_of_words_is_refused(copy: Copy) -> None:
    folder = copy(SMALL)
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((folder / "tokenizer.model").read_bytes())
    model.trainer_spec.model_type = 3
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    assert message(folder) == (
        f"FOLDER/tokenizer.model is neither Unigram nor BPE with spaces before words\n  {HINT}"
    )


def test_words_without_a_token_for_the_unknown_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    assert message(tmp_path) == f"FOLDER/vocab.txt is no WordPiece vocabulary: it has no unk_token\n  {HINT}"


def test_a_bpe_with_ends_of_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0, "b</w>": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    assert message(tmp_path) == f"FOLDER/vocab.json is no byte-level BPE: pieces end in </w>\n  {HINT}"


def test_a_vocabulary_without_its_merges_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    assert Tokenizer.from_folder(tmp_path) is None
