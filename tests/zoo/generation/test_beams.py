"""Beam search beside transformers' own, and what it refuses."""

import dataclasses
from typing import Any

import pytest
import torch
import transformers

import zoo
from zoo.errors import GenerationError
from zoo.generation import Beams, Decoding, Row, Sampler, rows_of, search
from zoo.modules.generating import GeneratingModule
from zoo.testing.parity import scramble

LLAMA = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}


def pair(kind: str, vocab_size: int, seed: int, folder: Any) -> tuple[Any, GeneratingModule]:
    """A random model of transformers, and the same one here."""
    if kind == "llama":
        config: Any = transformers.LlamaConfig(vocab_size=vocab_size, **LLAMA)
        model: Any = transformers.LlamaForCausalLM(config)
    else:
        config = transformers.T5Config(vocab_size=vocab_size, **T5)
        model = transformers.T5ForConditionalGeneration(config)
    scramble(model.eval(), std=0.6, seed=seed)
    model.save_pretrained(folder)
    module = zoo.load(folder)
    assert isinstance(module, GeneratingModule)
    return model, module


def theirs(
    model: Any, prompts: list[list[int]], ends: list[int], number: int, beams: Beams
) -> tuple[list[list[int]], list[float]]:
    longest, is_read = max(map(len, prompts)), model.config.is_encoder_decoder
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    real = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        place = slice(0, len(prompt)) if is_read else slice(longest - len(prompt), longest)
        ids[row, place], real[row, place] = torch.tensor(prompt), 1
    found = model.generate(
        ids,
        attention_mask=real,
        max_new_tokens=number,
        do_sample=False,
        num_beams=beams.num_beams,
        length_penalty=beams.length_penalty,
        early_stopping=beams.early_stopping,
        num_return_sequences=beams.num_return_sequences,
        eos_token_id=ends or None,
        pad_token_id=0,
        output_scores=True,
        return_dict_in_generate=True,
    )
    rows = []
    for row in found.sequences[:, 1 if is_read else longest :].tolist():
        first = next((index for index, token in enumerate(row) if token in ends), len(row))
        rows.append(row[: first + 1])
    return rows, found.sequences_scores.tolist()


@pytest.mark.parametrize("seed", range(24))
def test_ids_and_scores_equal_those_of_transformers(seed: int, tmp_path: Any) -> None:
    generator = torch.Generator().manual_seed(seed)

    def pick(*choices: Any) -> Any:
        return choices[int(torch.randint(len(choices), (1,), generator=generator))]

    vocab_size = pick(12, 40)
    model, module = pair(("llama", "t5")[seed % 2], vocab_size, seed, tmp_path)
    beams = Beams(
        num_beams=(num_beams := pick(2, 3, 5)),
        length_penalty=pick(-1.0, 0.0, 0.6, 1.0, 2.0),
        early_stopping=pick(True, False, "never"),
        num_return_sequences=pick(1, num_beams),
    )
    ends = pick([], [1], [1, 2, 4])
    lengths = [pick(1, 2, 6, 9) for _ in range(pick(1, 3))]
    prompts = [torch.randint(3, vocab_size, (length,), generator=generator).tolist() for length in lengths]
    decoding = Decoding(
        max_new_tokens=pick(1, 7, 14), sampler=Sampler(), eos_token_ids=frozenset(ends), beams=beams
    )
    writer = module.model_under(module.head())
    found = {}
    for done in search(writer, rows_of(prompts, start=writer.start), decoding, beams):
        found.update(done)
    best = [hypothesis for index in range(len(prompts)) for hypothesis in found[index]]
    expected, scores = theirs(model, prompts, ends, decoding.max_new_tokens, beams)
    assert [hypothesis.row.new for hypothesis in best] == expected
    torch.testing.assert_close(
        torch.tensor([hypothesis.score for hypothesis in best]), torch.tensor(scores), rtol=1e-5, atol=1e-5
    )
    assert module.new_ids(prompts, decoding, module.writer()) == expected


def test_a_prompt_that_is_done_is_told_of_at_once_and_costs_nothing_more(tmp_path: Any) -> None:
    _, module = pair("llama", 40, 3, tmp_path)
    beams, prompts = Beams(num_beams=2, early_stopping=True), [[5, 9, 30], [7], [8, 8, 4, 21]]
    model = module.model_under(module.head())
    sizes: list[int] = []

    def counted(ids: Any, mask: Any, cache: Any) -> Any:
        sizes.append(len(ids))
        return model.hidden_states(ids, mask, cache)

    def stops(row: int, new: list[int]) -> bool:
        return len(new) == (2, 9, 4)[row]

    decoding = Decoding(max_new_tokens=12, sampler=Sampler(), beams=beams, should_stop=stops)
    watched = type(model)(counted, model.logits, model.device)
    told = [sorted(done) for done in search(watched, rows_of(prompts), decoding, beams)]
    assert told == [[], [0], [], [2], [], [], [], [], [1]]
    assert sizes == [3, 6, 4, 4, 2, 2, 2, 2, 2]


def test_beams_of_a_prompt_share_what_an_encoder_made_of_it(tmp_path: Any) -> None:
    _, module = pair("t5", 40, 3, tmp_path)
    beams, prompts = Beams(num_beams=2, early_stopping=True), [[5, 9, 30], [7], [8, 8, 4, 21]]
    model = module.model_under(module.head())
    sizes: list[tuple[int, int, int]] = []

    def counted(ids: Any, mask: Any, cache: Any) -> Any:
        hidden = model.hidden_states(ids, mask, cache)
        keys, _ = cache.layer(0).memory(lambda: pytest.fail("made again"))
        sizes.append((len(ids), len(cache.source.hidden_BSD), len(keys)))
        return hidden

    def stops(row: int, new: list[int]) -> bool:
        return len(new) == (2, 4, 3)[row]

    decoding = Decoding(max_new_tokens=12, sampler=Sampler(), beams=beams, should_stop=stops)
    watched = dataclasses.replace(model, hidden_states=counted)
    for _ in search(watched, rows_of(prompts, start=model.start), decoding, beams):
        pass
    assert sizes == [(3, 3, 3), (6, 3, 3), (4, 2, 2), (2, 1, 1)]


def test_processors_see_each_beam_and_change_its_log_probabilities(tmp_path: Any) -> None:
    model, module = pair("llama", 40, 5, tmp_path)
    beams = Beams(num_beams=3)

    def once(rows: Any, log_probabilities: torch.Tensor) -> torch.Tensor:
        for row, scores in zip(rows, log_probabilities, strict=True):
            assert isinstance(row, Row)
            scores[row.ids] = -torch.inf
        return log_probabilities

    decoding = Decoding(max_new_tokens=10, sampler=Sampler(), beams=beams, processors=[once])
    (found,) = module.new_ids([[5, 9, 30]], decoding, module.writer())
    assert len({5, 9, 30, *found}) == 13
    expected = model.generate(
        torch.tensor([[5, 9, 30]]),
        max_new_tokens=10,
        num_beams=3,
        do_sample=False,
        no_repeat_ngram_size=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert found == expected[0, 3:].tolist()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"num_beams": 0}, "`num_beams` must be at least 1, got 0"),
        (
            {"num_beams": 2, "num_return_sequences": 3},
            "`num_return_sequences` must lie between 1 and `num_beams`, got 3 of 2",
        ),
        (
            {"num_beams": 2, "early_stopping": "soon"},
            "`early_stopping` must be true, false or \"never\", got 'soon'",
        ),
    ],
)
def test_choices_that_cannot_be_followed_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(GenerationError) as caught:
        Beams(**choices)
    assert str(caught.value) == message


def test_beams_and_a_temperature_exclude_each_other() -> None:
    with pytest.raises(GenerationError) as caught:
        Decoding(max_new_tokens=3, sampler=Sampler(temperature=0.7), beams=Beams(num_beams=2))
    assert str(caught.value) == (
        "beams draw no tokens, and `temperature` is 0.7\n  set temperature to 0, or num_beams to 1"
    )
