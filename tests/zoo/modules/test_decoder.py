"""Training's forward pass, and generation, of both families."""

import inspect
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import zoo
from zoo.errors import GenerationError, SpecError
from zoo.generation import Cache
from zoo.heads.base import Batch
from zoo.layers import Mask
from zoo.modules import DecoderModule
from zoo.tokenizer import Tokenizer, train_byte_level_bpe

FAMILIES = ("Llama", "TransformerLM")
TEXT = "the cat sat on the mat, the dog ran to the sun; ümlaut and 🦙 too.\n" * 5


def built(family: str = "Llama", **sizes: Any) -> DecoderModule:
    spec = getattr(zoo.decoders, family)
    torch.manual_seed(0)
    module = DecoderModule(backbone=spec(**{**spec.tiny, "initializer_range": 0.3, **sizes}))
    module.build()
    module.generation_config = {"eos_token_id": []}
    return module.eval()


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> DecoderModule:
    return built(request.param)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_byte_level_bpe([TEXT], 300)


@pytest.fixture
def writer(tokenizer: Tokenizer) -> DecoderModule:
    """A tiny Llama that reads and writes text."""
    module = built(vocab_size=300)
    module.adopt_tokenizer(tokenizer)
    return module


def greedy(model: DecoderModule, prompt: list[int], number: int) -> list[int]:
    """Without a cache: the whole text again for each token."""
    ids = list(prompt)
    for _ in range(number):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@settings(deadline=None, max_examples=20, derandomize=True)
@given(pieces=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_cached_logits_equal_uncached_ones(model: DecoderModule, pieces: list[int], seed: int) -> None:
    ids = torch.randint(0, 96, (2, sum(pieces)), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = model(ids).logits
        cache, logits, start = Cache(sum(pieces)), [], 0
        for length in pieces:
            piece = ids[:, start : start + length]
            logits.append(model.head()(model.backbone(piece, Mask(), cache), {}))
            start += length
    assert_close(torch.cat(logits, 1), expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(left=st.integers(0, 4), right=st.integers(0, 4), tokens=st.integers(1, 8))
def test_padding_never_changes_the_logits_beside_it(
    model: DecoderModule, left: int, right: int, tokens: int
) -> None:
    ids = torch.randint(0, 96, (2, tokens))
    padded = torch.randint(0, 96, (2, left + tokens + right))
    padded[:, left : left + tokens] = ids
    real = torch.zeros_like(padded)
    real[:, left : left + tokens] = 1
    with torch.no_grad():
        output, expected = model(padded, real), model(ids)
    assert_close(output.logits[:, left : left + tokens], expected.logits, rtol=1e-4, atol=1e-4)
    assert output.last_hidden_state.isfinite().all()


def test_a_token_sees_nothing_that_comes_after(model: DecoderModule) -> None:
    ids = torch.randint(0, 96, (1, 9))
    other = ids.clone()
    other[0, 5:] = (ids[0, 5:] + 1) % 96
    with torch.no_grad():
        assert_close(model(ids).logits[:, :5], model(other).logits[:, :5], rtol=1e-6, atol=1e-6)
        assert not torch.allclose(model(ids).logits[:, 5:], model(other).logits[:, 5:])


def test_a_batch_of_mixed_lengths_writes_what_each_prompt_alone_would(model: DecoderModule) -> None:
    prompts = [torch.randint(0, 96, (length,)) for length in (7, 1, 4, 12)]
    ids, mask = torch.zeros(4, 12, dtype=torch.long), torch.zeros(4, 12, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, 12 - len(prompt) :], mask[row, 12 - len(prompt) :] = prompt, 1
    together = model.generate(ids, attention_mask=mask, max_new_tokens=15)
    for row, prompt in zip(together, prompts, strict=True):
        assert row == model.generate(prompt[None], max_new_tokens=15)[0]
        assert row == greedy(model, prompt.tolist(), 15)


def test_right_padding_of_prompts_is_left_out_as_well(model: DecoderModule) -> None:
    ids = torch.randint(0, 96, (2, 6))
    mask = torch.tensor([[1] * 6, [1] * 3 + [0] * 3])
    rows = model.generate(ids, attention_mask=mask, max_new_tokens=8)
    assert rows[1] == greedy(model, ids[1, :3].tolist(), 8)


def test_drawn_rows_are_the_same_alone_and_in_a_batch(model: DecoderModule) -> None:
    ids = torch.randint(0, 96, (3, 6))
    choices: dict[str, Any] = {"max_new_tokens": 10, "temperature": 1.2, "top_k": 20, "top_p": 0.9, "seed": 5}
    together = model.generate(ids, **choices)
    assert together == [model.generate(row[None], **choices)[0] for row in ids]
    assert together != model.generate(ids, **{**choices, "seed": 6})


def test_texts_in_a_batch_equal_each_alone(writer: DecoderModule) -> None:
    prompts = ["the cat", "a", "on the mat, the dog", "🦙"]
    together = writer.generate(prompts, max_new_tokens=12)
    assert together == [writer.generate(prompt, max_new_tokens=12) for prompt in prompts]
    assert writer.generate([], max_new_tokens=12) == []


def test_predictions_are_in_order(writer: DecoderModule) -> None:
    prompts = ["the sun", "a", "to", "the cat sat"]
    writer.generation_config["max_new_tokens"] = 6
    assert writer.predict(prompts) == [writer.generate(prompt) for prompt in prompts]
    assert writer.predict_step({"prompts": prompts}, 0) == writer.predict(prompts)


def test_ids_and_text_agree(writer: DecoderModule, tokenizer: Tokenizer) -> None:
    ids = torch.tensor([tokenizer.encode("the cat")])
    (new,) = writer.generate(ids, max_new_tokens=9)
    assert len(new) == 9
    assert writer.generate("the cat", max_new_tokens=9) == tokenizer.decode(new)


class Scripted:
    """A backbone whose head, one-hot, writes a text given in advance."""

    def __init__(self, writer: DecoderModule, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        tokens = writer.tokenizer.encode(text)  # type: ignore[union-attr]
        self.steps = 0

        def step(hidden_BTD: Tensor, batch: Batch) -> Tensor:
            wanted = torch.full(hidden_BTD.shape[:-1], tokens[self.steps])
            self.steps += 1
            return torch.nn.functional.one_hot(wanted, 300).float()

        monkeypatch.setattr(writer.head(), "forward", step)


def test_a_stop_text_that_spans_tokens_ends_a_row_and_is_left_out(
    writer: DecoderModule, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " sat on the mat, the dog ran to the sun; ümlaut"
    stop = "t, th"
    assert all(stop not in tokenizer.decode([token]) for token in tokenizer.encode(text))
    script = Scripted(writer, text, monkeypatch)
    assert writer.generate("the cat", stop=[stop], max_new_tokens=40) == " sat on the ma"
    assert script.steps < len(tokenizer.encode(text))


def test_the_earliest_of_several_stop_texts_counts(
    writer: DecoderModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stop in (["dog", "mat", "never"], ["mat", "dog"], "mat"):
        with monkeypatch.context() as patch:
            Scripted(writer, " sat on the mat, the dog ran", patch)
            number = len(writer.tokenizer.encode(" sat on the mat, the dog ran"))  # type: ignore[union-attr]
            assert writer.generate("the cat", stop=stop, max_new_tokens=number) == " sat on the "


def test_a_stop_text_in_the_prompt_ends_nothing(
    writer: DecoderModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    Scripted(writer, " sat on the mat", monkeypatch)
    number = len(writer.tokenizer.encode(" sat on the mat"))  # type: ignore[union-attr]
    assert writer.generate("the cat", stop=["cat"], max_new_tokens=number) == " sat on the mat"


def test_characters_of_several_tokens_come_out_whole(
    writer: DecoderModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    Scripted(writer, "é 🦙 ü", monkeypatch)
    number = len(writer.tokenizer.encode("é 🦙 ü"))  # type: ignore[union-attr]
    assert writer.generate("🦙 the", max_new_tokens=number) == "é 🦙 ü"


def test_the_end_token_ends_a_row(model: DecoderModule, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.randint(0, 96, (1, 5))
    (free,) = model.generate(ids, max_new_tokens=12)
    end = free[3]
    expected = free[: free.index(end) + 1]
    for saved in (end, [95, end], [end]):
        monkeypatch.setattr(model, "generation_config", {"eos_token_id": saved})
        assert model.generate(ids, max_new_tokens=12) == [expected]


def test_the_end_token_comes_from_the_spec_and_from_the_tokenizer_in_turn(tokenizer: Tokenizer) -> None:
    end = tokenizer.special_id("eos_token")
    module = built(vocab_size=300, eos_token_id=7)
    module.generation_config = {}
    assert module.eos_token_ids == {7}
    module = built(vocab_size=300, eos_token_id=None)
    module.generation_config = {}
    assert module.eos_token_ids == set()
    module.adopt_tokenizer(tokenizer)
    assert module.eos_token_ids == {end}
    module.generation_config = {"eos_token_id": [3, 4]}
    assert module.eos_token_ids == {3, 4}


def test_what_generation_config_says_is_the_default(model: DecoderModule) -> None:
    ids = torch.randint(0, 96, (2, 5))
    saved = {"do_sample": True, "temperature": 0.8, "top_k": 12, "top_p": 0.95, "max_new_tokens": 7}
    given: dict[str, Any] = {key: value for key, value in saved.items() if key != "do_sample"}
    greedily = model.generate(ids, max_new_tokens=7)
    drawn = model.generate(ids, **given, seed=1)
    before, model.generation_config = model.generation_config, {**saved, "eos_token_id": []}
    try:
        assert model.generate(ids, seed=1) == drawn
        assert model.generate(ids, temperature=0.0) == greedily
        assert [len(row) for row in model.generate(ids, max_new_tokens=3)] == [3, 3]
        assert model.generate(ids, top_k=1) == greedily
        model.generation_config["do_sample"] = False
        assert model.generate(ids) == greedily
        assert model.generate(ids, **given, seed=1) == drawn
    finally:
        model.generation_config = before


def test_drawing_without_a_temperature_takes_one_and_zero_top_k_is_none(model: DecoderModule) -> None:
    ids = torch.randint(0, 96, (2, 5))
    drawn = model.generate(ids, temperature=1.0, max_new_tokens=6, seed=3)
    before = model.generation_config
    try:
        for saved in ({}, {"temperature": None, "top_k": 0, "top_p": None}, {"top_p": 1.0}):
            model.generation_config = {"do_sample": True, "eos_token_id": [], **saved}
            assert model.generate(ids, max_new_tokens=6, seed=3) == drawn
    finally:
        model.generation_config = before


def test_new_tokens_are_at_most_as_many_as_asked_for(model: DecoderModule) -> None:
    ids = torch.randint(0, 96, (1, 10))
    assert len(model.generate(ids, max_new_tokens=54)[0]) == 54
    assert len(model.generate(ids)[0]) == 54
    assert len(model.generate(ids[:, :1])[0]) == 63


def test_a_saved_length_beyond_the_models_is_what_the_model_leaves(
    model: DecoderModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "generation_config", {"max_new_tokens": 4096, "eos_token_id": []})
    assert len(model.generate(torch.randint(0, 96, (1, 10)))[0]) == 54


@pytest.mark.parametrize(
    ("length", "asked", "message"),
    [
        (
            10,
            55,
            "the model sees at most 64 tokens; the prompt has 10 and 55 new ones were asked for\n"
            "  shorten the prompt, or ask for at most 54 new tokens",
        ),
        (64, None, "the model sees at most 64 tokens; the prompt has 64\n  shorten the prompt"),
        (
            70,
            2,
            "the model sees at most 64 tokens; the prompt has 70 and 2 new ones were asked for\n"
            "  shorten the prompt",
        ),
        (10, 0, "`max_new_tokens` must be at least 1, got 0"),
        (10, -1, "`max_new_tokens` must be at least 1, got -1"),
    ],
)
def test_texts_too_long_are_refused(
    model: DecoderModule, length: int, asked: int | None, message: str
) -> None:
    with pytest.raises(GenerationError) as caught:
        model.generate(torch.zeros(1, length, dtype=torch.long), max_new_tokens=asked)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("inputs", "choices", "message"),
    [
        ("", {}, "prompt 0 is empty\n  give at least one token to continue"),
        (["the", ""], {}, "prompt 1 is empty\n  give at least one token to continue"),
        (
            torch.ones(2, 3, dtype=torch.long),
            {"attention_mask": torch.tensor([[1, 1, 1], [0, 0, 0]])},
            "prompt 1 is empty\n  give at least one token to continue",
        ),
        (torch.ones(3, dtype=torch.long), {}, "ids must be (batch, tokens), got the shape (3,)"),
        ("the", {"stop": ["a", ""]}, "a text to stop at must not be empty"),
        ("the", {"stop": ""}, "a text to stop at must not be empty"),
        ("the", {"temperature": -1.0}, "`temperature` must not be negative, got -1.0"),
    ],
)
def test_prompts_that_cannot_be_followed_are_refused(
    writer: DecoderModule, inputs: Any, choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(GenerationError) as caught:
        writer.generate(inputs, **choices)
    assert str(caught.value) == message


def test_without_a_tokenizer_text_is_refused(model: DecoderModule) -> None:
    with pytest.raises(GenerationError) as caught:
        model.generate("the cat")
    assert str(caught.value) == "the model has no tokenizer, so it takes ids, not text"
    with pytest.raises(GenerationError) as caught:
        model.generate(torch.ones(1, 2, dtype=torch.long), stop=["x"])
    assert str(caught.value) == "the model has no tokenizer, so it knows ids and no text"


def test_generation_leaves_every_part_in_the_mode_it_was_in(writer: DecoderModule) -> None:
    for mode in (True, False):
        writer.train(mode)
        writer.head().eval()  # as with a part that is frozen
        before = [part.training for part in writer.modules()]
        writer.generate("the", max_new_tokens=2)
        assert [part.training for part in writer.modules()] == before
        with pytest.raises(IndexError):  # midway
            writer.generate(torch.full((1, 2), 10**6), max_new_tokens=2)
        assert [part.training for part in writer.modules()] == before


def test_generation_never_drops_anything() -> None:
    module = built("TransformerLM", dropout=0.5, attention_dropout=0.5)
    expected = module.generate(torch.ones(1, 4, dtype=torch.long), max_new_tokens=10)
    module.train()
    assert module.generate(torch.ones(1, 4, dtype=torch.long), max_new_tokens=10) == expected


def test_training_goes_on_after_generation(model: DecoderModule) -> None:
    ids = torch.randint(0, 96, (2, 6))
    model.generate(ids, max_new_tokens=2)
    model(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.zero_grad()


def test_forward_speaks_the_hubs_words(model: DecoderModule) -> None:
    words = ["input_ids", "attention_mask", "labels", "head", "more"]
    assert list(inspect.signature(model.forward).parameters) == words
    ids = torch.randint(0, 96, (2, 6))
    output = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert output.loss is None
    assert output.logits.shape == (2, 6, 96)
    assert output.last_hidden_state.shape == (2, 6, 32)
    labelled = model(input_ids=ids, labels=ids)
    expected = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert_close(labelled.loss, expected)


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(SpecError) as caught:
        built().adopt_tokenizer(tokenizer)
    size = tokenizer.vocab_size
    assert str(caught.value) == (
        f"the tokenizer has {size} ids, the backbone's vocab_size is 96\n"
        "  at    model.backbone.vocab_size\n"
        f"  set the backbone's vocab_size to at least {size}"
    )


def test_beams_are_asked_for_like_anything_else(writer: DecoderModule) -> None:
    prompts = ["the cat", "a dog ran"]
    best = writer.generate(prompts, num_beams=3, max_new_tokens=6)
    several = writer.generate(prompts, num_beams=3, num_return_sequences=2, max_new_tokens=6)
    assert [first for first, _ in several] == best
    assert writer.generate(prompts[0], num_beams=3, num_return_sequences=2, max_new_tokens=6) == several[0]
    writer.generation_config |= {"num_beams": 3, "max_new_tokens": 6}
    assert writer.generate(prompts) == writer.predict(prompts) == best


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # inductor's own
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")  # tables
def test_compiled_steps_write_what_uncompiled_ones_do() -> None:
    module = built("Llama")
    ids = torch.randint(3, 96, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    for rows in (slice(0, 1), slice(0, 3)):
        choices: dict[str, Any] = {"attention_mask": mask[rows], "max_new_tokens": 16}
        assert module.generate(ids[rows], compile=True, **choices) == module.generate(ids[rows], **choices)
    beams = module.generate(ids, num_beams=2, compile=True, max_new_tokens=6)
    assert beams == module.generate(ids, num_beams=2, max_new_tokens=6)
