"""Guessed tokens: what is written is what would be written without them."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from zoo.errors import GenerationError
from zoo.generation import Draft, Model, PromptLookup, Row, Sampler, rows_of, speculate
from zoo.generation.decoding import Decoding, decode
from zoo.generation.speculation import Speculation
from zoo.modules import DecoderModule, EncoderDecoderModule
from zoo.modules.generating import GeneratingModule


def built(family: str, seed: int = 0, **sizes: Any) -> GeneratingModule:
    torch.manual_seed(seed)
    chosen = {"initializer_range": 0.3, "pad_token_id": 0, **sizes}
    kind: Any = DecoderModule if family in dir(zoo.decoders) else EncoderDecoderModule
    spec = getattr(zoo.decoders if kind is DecoderModule else zoo.encoder_decoders, family)
    module: GeneratingModule = kind(backbone=spec(**{**spec.tiny, **chosen}))
    module.build()
    module.generation_config = {"eos_token_id": []}
    return module.eval()


@pytest.fixture(scope="module", params=["Llama", "GPT2", "T5", "Transformer"])
def module(request: pytest.FixtureRequest) -> GeneratingModule:
    return built(request.param)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("kind", ["lookup", "itself", "another"])
def test_the_text_is_the_same_with_guesses_and_without(
    module: GeneratingModule, kind: str, temperature: float
) -> None:
    ids = torch.tensor([[5, 9, 30, 5, 9, 30, 5, 9], [7, 7, 7, 7, 7, 7, 7, 8]])
    choices: dict[str, Any] = {"max_new_tokens": 24, "temperature": temperature, "seed": 3}
    guesser: Any = {
        "lookup": PromptLookup(num_tokens=4),
        "itself": module,
        "another": built(type(module.spec).__name__, seed=1),
    }[kind]
    expected = module.generate(ids, **choices)
    assert module.generate(ids, speculation=guesser, **choices) == expected
    end = expected[0][11]
    module.generation_config = {"eos_token_id": end}
    assert module.generate(ids, speculation=guesser, **choices) == module.generate(ids, **choices)
    module.generation_config = {"eos_token_id": []}


def test_right_guesses_save_reading(module: GeneratingModule) -> None:
    model, calls = module.model_under(module.head()), []

    def counted(ids: Any, mask: Any, cache: Any) -> Any:
        calls.append(ids.shape[1])
        return model.hidden_states(ids, mask, cache)

    watched = dataclasses.replace(model, hidden_states=counted)
    rows = rows_of([[5, 9, 30]], start=model.start)
    decoding = Decoding(max_new_tokens=24, sampler=Sampler())
    steps = [step[0] for step in speculate(watched, rows, decoding, Draft(model, num_tokens=5))]
    assert [len(step) for step in steps] == [1, 6, 6, 6, 5]
    assert calls == [len(rows[0].ids) - 24, 6, 6, 6, 5]


class Table:
    """A model whose next token depends on the last one alone."""

    def __init__(self, logits_VV: Tensor) -> None:
        self.logits_VV = logits_VV

    def __call__(self, ids: Tensor, mask: Any, cache: Any) -> Tensor:
        cache.layer(0).update(*[ids[:, None, :, None].float()] * 2)
        return self.logits_VV[ids]

    @property
    def model(self) -> Model:
        return Model(self, lambda hidden: hidden, torch.device("cpu"))


class Wrong:
    """Guesses by a rule of its own."""

    num_tokens = 2

    def begin(self, row: Row, max_tokens: int) -> Any:
        return lambda row, number: [(row.ids[-1] + 1) % 5, (row.ids[-1] + 2) % 5][:number]


def test_draws_follow_the_models_distribution_whatever_is_guessed() -> None:
    table = Table(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    draft = Table(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))
    decoding = Decoding(max_new_tokens=3, sampler=Sampler(temperature=1.3), seed=0)
    first = (table.logits_VV[2] / 1.3).softmax(-1)
    step = (table.logits_VV / 1.3).softmax(-1)
    expected = first[:, None, None] * step[:, :, None] * step[None]
    ways: list[Speculation] = [Wrong(), Draft(draft.model, num_tokens=2)]
    for speculation in ways:
        counts = torch.zeros(5, 5, 5)
        rows = rows_of([[2]] * 700, seed=0)
        for _ in speculate(table.model, rows, decoding, speculation):
            pass
        for row in rows:
            counts[tuple(row.new)] += 1
        is_common = expected.flatten() * len(rows) > 5
        seen = counts.flatten()[is_common]
        wanted = expected.flatten()[is_common]
        wanted *= seen.sum() / wanted.sum()
        chi_square, freedom = ((seen - wanted) ** 2 / wanted).sum(), len(wanted) - 1
        assert chi_square < freedom + 2.33 * (2 * freedom) ** 0.5  # one in a hundred is farther
        plain = rows_of([[2]] * 40, seed=0)
        for _ in decode(table.model, plain, decoding):
            pass
        assert [row.new for row in plain] == [row.new for row in rows[:40]]


def test_lookup_guesses_what_followed_the_longest_match_last() -> None:
    def guess(ids: list[int], number: int = 3, **choices: int) -> list[int]:
        row = Row(0, ids)
        return list(PromptLookup(**choices).begin(row, 99)(row, number))

    assert guess([1, 2, 3, 4, 9, 2, 3]) == [4, 9, 2]
    assert guess([1, 2, 3, 4, 5, 2, 3, 6, 7, 8, 2, 3]) == [6, 7, 8]
    assert guess([5, 3, 4, 2, 3, 6, 7, 1, 5, 3]) == [4, 2, 3]
    assert guess([5, 3, 4, 2, 3, 6, 7, 1, 5, 3], longest_match=1) == [6, 7, 1]
    assert guess([1, 2, 3]) == []
    assert guess([4, 4]) == [4]
    read = Row(0, [1, 2, 3, 4], [0])
    asks = PromptLookup().begin(read, 99)
    read.ids += [2, 3]
    assert asks(read, 2) == [4, 0]


def test_what_cannot_guess_is_refused(module: GeneratingModule) -> None:
    ids = torch.tensor([[5, 9, 30]])
    with pytest.raises(GenerationError) as caught:
        module.generate(ids, speculation=built("Llama", vocab_size=50))
    assert str(caught.value) == (
        "a model of 50 words cannot guess for one of 96\n"
        "  take a smaller model of the same family, or zoo.generation.PromptLookup()"
    )
    with pytest.raises(GenerationError) as caught:
        module.generate(ids, speculation=PromptLookup(), num_beams=2)
    assert str(caught.value) == ("beams guess no tokens\n  set num_beams to 1, or leave speculation out")
    with pytest.raises(GenerationError) as caught:
        PromptLookup(num_tokens=0)
    assert str(caught.value) == "`num_tokens` of guesses must be at least 1, got 0"
    with pytest.raises(GenerationError) as caught:
        PromptLookup(longest_match=0)
    assert str(caught.value) == "`longest_match` must be at least 1, got 0"
