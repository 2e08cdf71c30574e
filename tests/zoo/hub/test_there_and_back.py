"""What was pushed is what is pulled, in the zoo and in transformers: logits, tokens, and what is written."""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.testing import assert_close

import zoo
from zoo import registry
from zoo.modules import DecoderModule
from zoo.modules.base import ZooModule
from zoo.testing.parity import of_transformers, scramble
from zoo.tokenizer import train

from .loopback import Loopback

NAME = "me/model"
HEADS = {"encoder": "MaskedLM", "decoder": "CausalLM", "encoder-decoder": "Seq2SeqLM"}
MODULES = {"encoder": "EncoderModule", "decoder": "DecoderModule", "encoder-decoder": "EncoderDecoderModule"}
KNOWN = sorted(
    entry.name
    for group in registry.FAMILIES
    for entry in registry.in_group(group)
    if entry.distribution == registry.DISTRIBUTION and entry.name in transformers.CONFIG_MAPPING
)


def tiny(family: str, **sizes: Any) -> ZooModule:
    spec = registry.family(family)
    more = {"model_type": family} if "model_type" in spec.__dataclass_fields__ else {}
    module: ZooModule = getattr(zoo.modules, MODULES[spec.shape])(
        backbone=spec(**{**spec.tiny, **more, **sizes}), head=getattr(zoo.heads, HEADS[spec.shape])()
    )
    module.build()
    scramble(module)
    return module.eval()


@pytest.mark.parametrize("family", KNOWN)
def test_a_pushed_model_of_every_family_loads_in_transformers_with_equal_logits(
    family: str, hub: Loopback, logged_in: str
) -> None:
    model = tiny(family)
    zoo.push(model, NAME)
    folder = zoo.pull(NAME)
    theirs, _ = of_transformers(folder)
    assert theirs.config.model_type == family
    batch = {"input_ids": torch.randint(3, model.spec.vocab_size, (2, 9))}
    if model.shape == "encoder-decoder":
        batch["decoder_input_ids"] = torch.randint(3, model.spec.vocab_size, (2, 5))
    assert_close(zoo.load(NAME)(**batch).logits, model(**batch).logits, rtol=0, atol=0)
    # In float64: in float32 the sides' roundings alone may be as far apart as this bound.
    expected = model.double()(**batch).logits
    assert_close(theirs.double()(**batch).logits, expected, rtol=1e-5, atol=1e-5)


def embedding(pooling: Any) -> ZooModule:
    spec = zoo.encoders.Bert(**{**zoo.encoders.Bert.tiny, "vocab_size": 300})
    model = zoo.modules.EncoderModule(
        backbone=spec, head=zoo.heads.Embedding(pooling=pooling, normalize=True)
    )
    model.build()
    scramble(model)
    model.adopt_tokenizer(train("wordpiece", generated_lines()[:100], 250))
    built: ZooModule = model.eval()
    return built


def test_a_pushed_model_of_sentences_gives_equal_vectors(hub: Loopback, logged_in: str) -> None:
    """Pooled as its files say, and as sentence-transformers pools what transformers reads of them."""
    model = embedding("first")
    zoo.push(model, NAME)
    assert {"modules.json", "1_Pooling/config.json"} <= hub.repositories[NAME].names()
    texts = ["the Cat", "(a+b) x_1"]
    loaded = zoo.load(NAME)
    assert loaded.head_specs == model.head_specs
    assert loaded.predict(texts) == model.predict(texts)
    folder = zoo.pull(NAME)
    theirs = transformers.AutoModel.from_pretrained(folder)
    read = transformers.AutoTokenizer.from_pretrained(folder)
    hidden = theirs(**read(texts, padding=True, return_tensors="pt")).last_hidden_state
    expected = torch.nn.functional.normalize(hidden[:, 0], dim=-1)
    assert_close(torch.tensor(loaded.predict(texts)), expected, rtol=1e-4, atol=1e-5)


def test_a_folder_of_sentence_transformers_is_pushed_whole(
    hub: Loopback, logged_in: str, tmp_path: Path
) -> None:
    folder = zoo.save(embedding("mean"), tmp_path / "theirs")
    (folder / "README.md").write_text("# Theirs\n")
    for name in ("config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).write_text("{}")
    zoo.push(folder, NAME)
    held = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert hub.repositories[NAME].names() == held
    zoo.push(tiny("llama"), NAME)
    assert not {name for name in hub.repositories[NAME].names() if "sentence" in name or "ooling" in name}


@pytest.mark.parametrize("is_tied", [True, False])
def test_readers_before_and_since_scale_a_t5_alike(is_tied: bool, hub: Loopback, logged_in: str) -> None:
    """Files since 2026 have `scale_decoder_outputs`; readers before know of `tie_word_embeddings` alone."""
    model = tiny("t5", tie_word_embeddings=is_tied)
    zoo.push(model, NAME)
    folder = zoo.pull(NAME)
    config = json.loads((folder / "config.json").read_text())
    assert config["tie_word_embeddings"] is is_tied
    assert "scale_decoder_outputs" not in config
    theirs, _ = of_transformers(folder)
    batch = {"input_ids": torch.arange(3, 12)[None], "decoder_input_ids": torch.arange(3, 8)[None]}
    assert_close(theirs(**batch).logits, model(**batch).logits, rtol=1e-5, atol=1e-5)


def generated_lines() -> list[str]:
    draw = random.Random(0)
    words = [
        "the",
        "Cat",
        "naïve",
        "Übung",
        "漢字",
        "🙂",
        "don't",
        "3.14",
        "x_1",
        "  ",
        "\t",
        "(a+b)",
        "<|endoftext|",
        "e\u0301",
    ]
    return ["".join(draw.choice([" ", "", " "]) + draw.choice(words) for _ in range(12)) for _ in range(1000)]


@pytest.fixture(params=["generated", "real"])
def lines(request: pytest.FixtureRequest) -> list[str]:
    """Words of many scripts, or real text of several languages."""
    if request.param == "generated":
        return generated_lines()
    found: list[str] = []
    for name in ("multi30k/val", "oasst_chat/train", "java_csharp/dev"):
        with gzip.open(
            request.getfixturevalue("shared") / "data" / f"{name}.jsonl.gz", "rt", encoding="utf-8"
        ) as file:
            texts = (text for row in map(json.loads, file) for text in _texts(row))
            found += islice((line for text in texts for line in text.splitlines()), 400)
    return found


def _texts(value: Any) -> Iterator[str]:
    """The texts of a row, whatever it is made of."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_a_pushed_tokenizer_reads_a_thousand_lines_alike(
    kind: str, lines: list[str], hub: Loopback, logged_in: str
) -> None:
    tokenizer = train(kind, lines[::5], 500)
    model = tiny("llama", vocab_size=600)
    model.adopt_tokenizer(tokenizer)
    zoo.push(model, NAME)
    mine, theirs = zoo.load(NAME).tokenizer, transformers.AutoTokenizer.from_pretrained(zoo.pull(NAME))
    assert mine is not None
    assert len(lines) >= 1000
    expected = [tokenizer.encode(line) for line in lines]
    assert [mine.encode(line) for line in lines] == expected
    assert theirs(lines)["input_ids"] == expected
    assert theirs.batch_decode(expected, skip_special_tokens=True) == [
        tokenizer.backend.decode(ids, skip_special_tokens=True) for ids in expected
    ]


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_pushed_model_writes_the_same(
    family: str, hub: Loopback, logged_in: str, build: Callable[..., DecoderModule]
) -> None:
    model: Any = tiny(family, vocab_size=300, eos_token_id=0)
    model.adopt_tokenizer(build().tokenizer)
    zoo.push(model, NAME)
    loaded: Any = zoo.load(NAME)
    theirs: Any = getattr(transformers, model.hub_head("head").architecture).from_pretrained(zoo.pull(NAME))
    prompt = torch.arange(5, 14)[None]
    for choices in ({}, {"num_beams": 3}, {"temperature": 0.8, "seed": 3}):
        assert loaded.generate(prompt, max_new_tokens=12, **choices) == model.generate(
            prompt, max_new_tokens=12, **choices
        )
    assert loaded.generate("the cat", max_new_tokens=12) == model.generate("the cat", max_new_tokens=12)
    written = theirs.generate(prompt, max_new_tokens=12, do_sample=False)[0].tolist()
    start = 1 if family == "t5" else prompt.shape[1]
    assert written[start:] == model.generate(prompt, max_new_tokens=12)[0]
