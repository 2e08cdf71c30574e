"""`generate` and `stream`: what is asked for, and what transformers makes of the same files."""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import zoo
from zoo.errors import GenerationError
from zoo.generation import Row
from zoo.modules import DecoderModule, EncoderDecoderModule
from zoo.testing.parity import scramble
from zoo.tokenizer import Tokenizer, train_byte_level_bpe

TEXT = "the cat sat on the mat, the dog ran to the sun; ümlaut and 🦙 too.\n" * 5
Model = DecoderModule | EncoderDecoderModule


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    trained = train_byte_level_bpe([TEXT], 300)
    assert trained.special_id("pad_token") is None
    return trained


def built(name: str, tokenizer: Tokenizer) -> Model:
    module: Model
    if name == "Llama":
        spec = zoo.decoders.Llama
        module = DecoderModule(backbone=spec(**{**spec.tiny, "vocab_size": 300, "eos_token_id": 7}))
    else:
        t5 = zoo.encoder_decoders.T5
        module = EncoderDecoderModule(backbone=t5(**{**t5.tiny, "vocab_size": 300, "eos_token_id": 7}))
    module.build()
    scramble(module, std=0.25)
    module.adopt_tokenizer(tokenizer)
    return module.eval()


@pytest.fixture(params=["Llama", "T5"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Model:
    return built(request.param, tokenizer)


SAVED: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    {"min_length": 6, "eos_token_id": list(range(60)), "bad_words_ids": [[70, 71], [72]]},
    {"min_new_tokens": 5, "eos_token_id": list(range(60))},
    {"suppress_tokens": list(range(100)), "begin_suppress_tokens": list(range(100, 200))},
    {"forced_bos_token_id": 9, "forced_eos_token_id": 8, "begin_suppress_tokens": [3], "eos_token_id": 8},
    {"max_length": 15, "max_new_tokens": None},
    {"decoder_start_token_id": 11},
    {"num_beams": 3, "length_penalty": 0.6, "early_stopping": True, "eos_token_id": list(range(60))},
    {"num_beams": 3, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "forced_eos_token_id": 7},
    {"num_beams": 4, "bad_words_ids": [[70], [71, 72]], "renormalize_logits": True, "max_length": 20},
]


@pytest.mark.parametrize("saved", SAVED, ids=lambda saved: ", ".join(saved) or "nothing")
def test_the_same_files_make_transformers_write_the_same(
    model: Model, saved: dict[str, Any], tmp_path: Path
) -> None:
    model.generation_config = {"max_new_tokens": 12, **saved}
    zoo.save(model, tmp_path)
    kind = (
        transformers.AutoModelForCausalLM if model.shape == "decoder" else transformers.AutoModelForSeq2SeqLM
    )
    theirs = kind.from_pretrained(tmp_path)
    ids = torch.randint(3, 300, (3, 6), generator=torch.Generator().manual_seed(0))
    expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0)
    num_given = ids.shape[1] if model.shape == "decoder" else 1
    ends = model.eos_token_ids
    for ours, row in zip(zoo.load(tmp_path).generate(ids), expected[:, num_given:].tolist(), strict=True):
        end = next((place for place, token in enumerate(row) if token in ends), len(row))
        assert ours == row[: end + 1]


def test_generation_config_goes_round_with_all_its_fields(model: Model, tmp_path: Path) -> None:
    said = {
        "eos_token_id": [7, 9],
        "my_own": {"nested": [1, None]},
        "transformers_version": "4.2.0",
        "temperature": 0.7,
        "typical_p": 0.5,
    }
    model.generation_config = said
    zoo.save(model, tmp_path / "one")
    zoo.save(zoo.load(tmp_path / "one"), tmp_path / "two")
    one, two = (
        json.loads((tmp_path / name / "generation_config.json").read_text()) for name in ("one", "two")
    )
    assert one == two
    assert said.items() <= one.items()


def test_the_signature_is_the_one_that_is_promised() -> None:
    promised = "attention_mask max_new_tokens temperature top_k top_p num_beams length_penalty stop seed"
    parameters = inspect.signature(DecoderModule.generate).parameters
    assert set(promised.split()) <= set(parameters)
    assert all(
        parameter.kind == parameter.KEYWORD_ONLY
        for name, parameter in parameters.items()
        if name not in ("self", "inputs")
    )


# Streams


@pytest.mark.parametrize(
    "choices",
    [{}, {"temperature": 1.2, "seed": 3, "top_k": 40}, {"stop": "t"}, {"stop": ["he", "the"], "min_p": 0.1}],
)
def test_pieces_join_to_what_is_generated(model: Model, choices: dict[str, Any]) -> None:
    pieces = list(model.stream("the cat", max_new_tokens=25, **choices))
    assert "".join(pieces) == model.generate("the cat", max_new_tokens=25, **choices)
    assert all(pieces)
    ids = torch.tensor([model.require_tokenizer().encode("the cat")])
    assert [list(model.stream(ids, max_new_tokens=25, **choices))] == model.generate(
        ids, max_new_tokens=25, **choices
    )


def test_a_piece_comes_as_soon_as_it_is_known(model: Model) -> None:
    seen = []

    def watch(rows: Sequence[Row], logits: Tensor) -> Tensor:
        seen.append(rows[0].num_new)
        return logits

    stream = model.stream("the cat", max_new_tokens=25, processors=[watch], temperature=2.0, seed=0)
    assert seen == []
    next(stream)
    assert len(seen) < 25


def test_what_cannot_be_streamed_is_refused_at_once(model: Model) -> None:
    for inputs, choices in (
        (torch.ones(2, 3, dtype=torch.long), {}),
        ("the", {"temperature": 1.0, "num_return_sequences": 2}),
    ):
        with pytest.raises(GenerationError) as caught:
            model.stream(inputs, **choices)
        assert str(caught.value) == (
            "one text is streamed at a time, and not in beam search\n  `generate` does both"
        )
    with pytest.raises(GenerationError, match=r"^prompt 0 is empty\n"):
        model.stream("")
    with pytest.raises(TypeError, match="unexpected keyword argument 'tempratur'"):
        model.stream("the", tempratur=1.0)


def test_a_stream_that_is_left_leaves_the_mode_as_it_was(model: Model) -> None:
    model.train()
    stream = model.stream("the cat", max_new_tokens=25)
    next(stream)
    del stream
    assert model.training


def test_prompts_are_told_of_when_they_are_done(model: Model) -> None:
    prompts, stop = ["the cat", "a", "to the sun"], model.generate("a", max_new_tokens=20)[2:4]
    for choices in ({}, {"stop": stop}, {"num_beams": 2, "num_return_sequences": 2}):
        asked: dict[str, Any] = {"max_new_tokens": 20, **choices}
        told = list(model.finished(prompts, **asked))
        expected = model.generate(prompts, **asked)
        assert dict(told) == dict(enumerate(expected))
        if "stop" in choices:
            assert told[0] == (1, expected[1])


def test_how_many_are_written_together_changes_nothing(model: Model) -> None:
    prompts = ["the cat", "a", "to the sun", "the cat", "on the mat, the dog ran"]
    for choices in ({}, {"temperature": 1.3, "seed": 5}, {"num_beams": 2}):
        asked: dict[str, Any] = {"max_new_tokens": 15, **choices}
        expected = model.generate(prompts, **asked)
        assert model.generate(prompts, batch_size=1, **asked) == expected
        assert model.generate(prompts, batch_size=2, **asked) == expected
    with pytest.raises(GenerationError) as caught:
        model.generate(prompts, batch_size=0)
    assert str(caught.value) == "`batch_size` must be at least 1, got 0"


# Several texts, choices, processors


def test_several_texts_of_a_prompt_stand_in_a_list(model: Model) -> None:
    choices: dict[str, Any] = {"temperature": 1.0, "seed": 1, "max_new_tokens": 8}
    three = model.generate("the cat", num_return_sequences=3, **choices)
    assert len(set(three)) == 3
    assert three[0] == model.generate("the cat", **choices)
    both = model.generate(["a", "the cat"], num_return_sequences=3, **choices)
    assert [len(texts) for texts in both] == [3, 3]
    assert both[1] == three
    ids = torch.tensor([model.require_tokenizer().encode("the cat")])
    [rows] = model.generate(ids, num_return_sequences=3, **choices)
    assert [len(row) <= 8 for row in rows] == [True] * 3


def test_a_row_writes_one_of_the_choices_and_ends(model: Model) -> None:
    choices = ["the dog", "the sun", " no", "zebra 🦙"]
    written = set()
    for seed in range(12):
        written.add(model.generate("the cat", choices=choices, temperature=3.0, seed=seed))
    assert written <= set(choices)
    assert len(written) > 1
    assert model.generate(["a", "the", "on the mat"], choices=["only"]) == ["only"] * 3
    assert "".join(model.stream("the", choices=["the dog"])) == "the dog"


def test_beams_find_the_likeliest_choice(model: Model) -> None:
    texts = ["the dog", "the sun", "to", "on"]
    found = model.generate("the cat", choices=texts, num_beams=4, num_return_sequences=4, length_penalty=0.0)
    assert sorted(found) == sorted(texts)
    tokenizer = model.require_tokenizer()

    def score(text: str) -> float:
        prompt, new = tokenizer.encode("the cat"), tokenizer.encode(text)
        if model.shape == "decoder":
            logits = model(torch.tensor([prompt + new])).logits[0, len(prompt) - 1 : -1]
        else:
            written = torch.tensor([[model.start_id, *new[:-1]]])  # type: ignore[union-attr]
            logits = model(torch.tensor([prompt]), decoder_input_ids=written).logits[0]
        return float(logits.log_softmax(-1)[range(len(new)), new].sum().detach())

    likeliest = sorted(texts, key=score, reverse=True)
    assert found[0] == likeliest[0]


def test_beams_end_at_a_stop_text(model: Model) -> None:
    whole = model.generate("the cat", num_beams=3, max_new_tokens=20, length_penalty=3.0)
    stop = whole[4:6]
    cut = model.generate("the cat", num_beams=3, max_new_tokens=20, stop=stop)
    assert stop not in cut


def test_the_likeliest_token_of_the_choices_is_taken(model: Model) -> None:
    first = {text: model.require_tokenizer().encode(text)[0] for text in ("a", "d", "z")}
    ids = torch.tensor([model.require_tokenizer().encode("the cat")])
    more = {} if model.shape == "decoder" else {"decoder_input_ids": torch.tensor([[model.start_id]])}
    logits = model(ids, **more).logits[0, -1]
    assert model.generate("the cat", choices=list(first)) == max(first, key=lambda text: logits[first[text]])


def test_processors_of_ones_own_are_called_with_rows_and_logits(model: Model) -> None:
    wanted = model.require_tokenizer().encode(" sat on")

    def force(rows: Sequence[Row], logits: Tensor) -> Tensor:
        for row, scores in zip(rows, logits, strict=True):
            scores[wanted[row.num_new]] = torch.inf
        return logits

    number = len(wanted)
    assert model.generate(["a", "the cat"], processors=[force], max_new_tokens=number) == [" sat on"] * 2


def test_a_tokenizer_without_a_pad_token_still_makes_batches(model: Model) -> None:
    prompts = ["the cat sat on the mat", "a", "to the sun"]
    together = model.generate(prompts, max_new_tokens=10)
    assert together == [model.generate(prompt, max_new_tokens=10) for prompt in prompts]
    assert model.predict(prompts) == model.generate(prompts)


def test_stops_of_the_file_count_unless_a_call_names_others(model: Model) -> None:
    whole = model.generate("the cat", max_new_tokens=20)
    stop = whole[5:7]
    model.generation_config["stop_strings"] = stop
    assert model.generate("the cat", max_new_tokens=20) == whole[: whole.index(stop)]
    assert model.generate("the cat", max_new_tokens=20, stop=()) == whole
