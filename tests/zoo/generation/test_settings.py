"""generation_config.json: what it says is the default of a call."""

from typing import Any

import pytest
import transformers

from zoo.errors import GenerationError
from zoo.generation import Settings, processors

EVERYTHING: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.6,
    "top_k": 12,
    "top_p": 0.9,
    "min_p": 0.05,
    "repetition_penalty": 1.2,
    "no_repeat_ngram_size": 3,
    "bad_words_ids": [[7], [8, 9]],
    "min_length": 4,
    "min_new_tokens": 2,
    "forced_bos_token_id": 5,
    "forced_eos_token_id": [2, 3],
    "suppress_tokens": [10],
    "begin_suppress_tokens": [11],
    "length_penalty": 0.8,
    "early_stopping": "never",
    "num_return_sequences": 2,
    "renormalize_logits": True,
    "max_new_tokens": 30,
    "max_length": 60,
    "stop_strings": ["\n\n"],
}


def test_what_the_file_says_is_the_default() -> None:
    settings = Settings.of(EVERYTHING)
    assert {name: getattr(settings, name) for name in EVERYTHING if name != "do_sample"} == {
        name: value for name, value in EVERYTHING.items() if name != "do_sample"
    }
    assert Settings.of({}) == Settings.of(dict.fromkeys(EVERYTHING)) == Settings()


def test_what_a_call_is_given_counts_before_the_file() -> None:
    given = {"temperature": 0.2, "top_k": 3, "repetition_penalty": 1.0, "stop_strings": "x"}
    settings = Settings.of(EVERYTHING, **given, top_p=None)
    assert {name: getattr(settings, name) for name in given} == given
    assert settings.top_p == 0.9
    assert settings.stop == ["x"]


def test_what_is_about_draws_counts_only_where_the_file_draws() -> None:
    for said in ({"do_sample": False}, {"do_sample": None}):
        settings = Settings.of({**EVERYTHING, **said}, num_return_sequences=1)
        assert settings.sampler == Settings().sampler
        drawn = Settings.of({**EVERYTHING, **said}, temperature=0.5)
        assert (drawn.temperature, drawn.top_k, drawn.min_p) == (0.5, None, None)
    assert Settings.of({"do_sample": True}).temperature == 1.0
    assert Settings.of({"do_sample": True, "top_k": 0}).sampler.top_k is None


def test_a_call_that_says_draws_or_beams_is_not_contradicted_by_the_file() -> None:
    assert Settings.of({"num_beams": 4}, temperature=0.5).num_beams == 1
    assert Settings.of({"num_beams": 4}, temperature=0.0).num_beams == 4
    assert Settings.of({"do_sample": True, "temperature": 0.7}, num_beams=4).temperature == 0.0
    assert Settings.of({"do_sample": True, "typical_p": 0.7}, num_beams=4).num_beams == 4


def test_how_much_is_written_by_default() -> None:
    assert Settings().default_new_tokens(10) == 64
    assert Settings(max_length=50).default_new_tokens(10) == 40
    assert Settings(max_length=50).default_new_tokens(50) == 64
    assert Settings(max_length=50, max_new_tokens=7).default_new_tokens(10) == 7


def test_processors_come_in_the_order_of_transformers() -> None:
    settings = Settings.of({**EVERYTHING, "do_sample": False, "num_beams": 3})

    def own(rows: Any, logits: Any) -> Any:
        return logits

    assert settings.processors({1, 8}, 20, [own]) == [
        processors.RepetitionPenalty(1.2),
        processors.NoRepeatNGram(3),
        processors.NoBadWords([[7], [8, 9]]),
        processors.MinLength(4, {1, 8}, counts_given=True),
        processors.MinLength(2, {1, 8}),
        processors.ForcedStart(5),
        processors.ForcedEnd([2, 3], 20),
        processors.Suppress([10]),
        processors.Suppress([11], at=1),
        own,
        processors.renormalize,
    ]
    assert Settings().processors({1}, 20) == []
    ends = Settings(bad_words_ids=[[1], [2]], forced_eos_token_id=2).processors({1}, 20)
    assert ends == [processors.NoBadWords([[2]]), processors.ForcedEnd([2], 20)]


def refusal(saved: dict[str, Any], **given: Any) -> str:
    with pytest.raises(GenerationError) as caught:
        Settings.of(saved, **given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance_scale", 1.5),
        ("penalty_alpha", 0.6),
        ("num_beam_groups", 2),
        ("sequence_bias", [[[1], 2.0]]),
    ],
)
def test_what_is_not_followed_is_refused(name: str, value: Any) -> None:
    assert refusal({name: value}) == (
        f"generation_config.json asks for `{name}` {value}, which the zoo does not follow\n"
        f'  leave it out: model.generation_config.pop("{name}"), or delete it in the file'
    )


def test_what_is_not_followed_of_draws_is_refused_where_something_is_drawn() -> None:
    saved = {"typical_p": 0.9, "do_sample": True}
    assert refusal(saved).startswith("generation_config.json asks for `typical_p` 0.9, which")
    assert refusal({"typical_p": 0.9}, temperature=0.5).startswith(
        "generation_config.json asks for `typical_p`"
    )
    assert Settings.of(saved, temperature=0.0) == Settings()


def test_what_does_nothing_is_passed_over() -> None:
    saved = transformers.GenerationConfig().to_dict()
    saved |= transformers.GenerationConfig._get_default_generation_params()
    saved |= {"diversity_penalty": 0.0, "num_beam_groups": 1, "guidance_scale": 1.0, "typical_p": 1.0}
    settings = Settings.of({**saved, "my_own": {"a": 1}, "transformers_version": "5.0.0"}, temperature=0.5)
    assert settings == Settings(temperature=0.5, max_length=20)


@pytest.mark.parametrize(
    ("saved", "given", "message"),
    [
        ({"num_beams": "four"}, {}, "`num_beams` must be a whole number, got `four`"),
        ({"top_k": 1.5}, {"temperature": 1.0, "top_k": 1.5}, "`top_k` must be a whole number, got `1.5`"),
        ({"length_penalty": True}, {}, "`length_penalty` must be a number, got `True`"),
        ({}, {"temperature": "hot"}, "`temperature` must be a number, got `hot`"),
        ({"num_beams": 0}, {}, "`num_beams` must be at least 1, got 0"),
        ({}, {"num_return_sequences": 0}, "`num_return_sequences` must be at least 1, got 0"),
        ({}, {"no_repeat_ngram_size": -2}, "`no_repeat_ngram_size` must be at least 0, got -2"),
        ({"early_stopping": "soon"}, {}, "`early_stopping` must be true, false or `never`, got `soon`"),
        (
            {},
            {"num_beams": 4, "temperature": 0.7},
            "beam search draws nothing, got 4 beams and a `temperature` of 0.7\n"
            "  set `temperature` to 0, or `num_beams` to 1",
        ),
        (
            {"num_beams": 4, "do_sample": True},
            {},
            "beam search draws nothing, got 4 beams and a `temperature` of 1.0\n"
            "  set `temperature` to 0, or `num_beams` to 1",
        ),
        (
            {},
            {"num_return_sequences": 3},
            "`num_return_sequences` must be at most `num_beams`, 1, where nothing is drawn, got 3\n"
            "  give more beams, or a temperature",
        ),
    ],
)
def test_choices_that_cannot_be_followed_are_refused(
    saved: dict[str, Any], given: dict[str, Any], message: str
) -> None:
    assert refusal(saved, **given) == message
