"""Rows that are written together: replaced, dropped and moved without touching each other."""

import dataclasses
from typing import Any

import pytest
import torch

import zoo
from zoo.generation import Batch, Decoding, Row, Sampler, decode, rows_of
from zoo.modules import DecoderModule, EncoderDecoderModule
from zoo.modules.generating import GeneratingModule

KINDS = ["Llama", "GPT2", "TransformerLM", "T5", "Transformer"]


@pytest.fixture(scope="module", params=KINDS)
def module(request: pytest.FixtureRequest) -> GeneratingModule:
    group: Any = zoo.decoders if request.param in dir(zoo.decoders) else zoo.encoder_decoders
    spec = getattr(group, request.param)
    torch.manual_seed(0)
    chosen = {"initializer_range": 0.3, "pad_token_id": 0}
    kind = DecoderModule if group is zoo.decoders else EncoderDecoderModule
    built = kind(backbone=spec(**{**spec.tiny, **chosen}))
    built.build()
    return built.eval()


def prompt(length: int) -> list[int]:
    return torch.randint(3, 96, (length,), generator=torch.Generator().manual_seed(length)).tolist()


def rows(module: GeneratingModule, *lengths: int) -> list[Row]:
    return rows_of([prompt(length) for length in lengths], start=module.model_under(module.head()).start)


def alone(module: GeneratingModule, length: int, number: int) -> list[int]:
    (row,) = rows(module, length)
    batch = Batch(module.model_under(module.head()), 60)
    logits = batch.begin([row])
    for _ in range(number):
        row.ids.append(int(logits.argmax()))
        logits = batch.step()
    return row.new


def write(batch: Batch, logits: torch.Tensor, places: list[int], number: int) -> None:
    """So many tokens more of all rows, of which the logits of some are there already."""
    for place, token in zip(places, logits.argmax(-1).tolist(), strict=True):
        batch.rows[place].ids.append(token)
    for _ in range(number - 1):
        for row, token in zip(batch.rows, batch.step().argmax(-1).tolist(), strict=True):
            row.ids.append(token)


def test_rows_of_a_batch_are_what_each_is_alone_whatever_happens_to_the_others(
    module: GeneratingModule,
) -> None:
    batch = Batch(module.model_under(module.head()), 60)
    first = rows(module, 7, 3, 5)
    write(batch, batch.begin(first), [0, 1, 2], 4)
    longer, shorter = rows(module, 15, 2)
    write(batch, batch.replace([1, 0], [longer, shorter]), [1, 0], 3)
    batch.make_room(batch.length + 4)
    batch.select([2, 1])
    write(batch, batch.step(), [0, 1], 4)
    batch.trim()
    write(batch, batch.step(), [0, 1], 3)
    for row in (*first, longer, shorter):
        assert row.new == alone(module, len(row.prompt), 20)[: row.num_new]
    assert [row.num_new for row in (*first, longer, shorter)] == [4, 4, 13, 10, 3]


def test_a_batch_is_cut_back(module: GeneratingModule) -> None:
    batch = Batch(module.model_under(module.head()), 60, spare=3)
    (row,) = rows(module, 6)
    write(batch, batch.begin([row]), [0], 4)
    before = batch.length
    batch.read([[row.ids[-1], 40, 41]], 3)
    batch.truncate(before)
    write(batch, batch.step(), [0], 4)
    assert row.new == alone(module, 6, 8)


def test_several_tokens_at_once_have_the_logits_that_each_has(module: GeneratingModule) -> None:
    model = module.model_under(module.head())
    (row,) = rows(module, 6)
    at_once, by_step = Batch(model, 60, spare=4), Batch(model, 60)
    ids = [5, 9, 30, 7]
    at_once.begin([row])
    several = at_once.read([ids], 4)
    by_step.begin([row])
    single = [by_step.read([[token]]) for token in ids]
    torch.testing.assert_close(several, torch.cat(single, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_rows", [1, 3, 50])
def test_rows_that_wait_take_the_places_of_those_that_end_and_each_is_as_alone(
    module: GeneratingModule, num_rows: int
) -> None:
    lengths = [7, 3, 15, 2, 9, 1, 4, 11, 5, 8, 6, 13]
    model, sizes = module.model_under(module.head()), []

    def counted(ids: Any, mask: Any, cache: Any) -> Any:
        sizes.append(ids.shape)
        return model.hidden_states(ids, mask, cache)

    def stops(row: int, new: list[int]) -> bool:
        return len(new) > lengths[row] % 4 + row % 5

    watched = dataclasses.replace(model, hidden_states=counted)
    decoding = Decoding(max_new_tokens=9, sampler=Sampler(), should_stop=stops, num_rows=num_rows)
    written: dict[int, list[int]] = {}
    for step in decode(watched, rows(module, *lengths), decoding):
        for index, tokens in step.items():
            written.setdefault(index, []).extend(tokens)
    for index, length in enumerate(lengths):
        number = min(9, length % 4 + index % 5 + 1)
        assert written[index] == alone(module, length, number), index
    assert max(size[0] for size in sizes) == min(num_rows, len(lengths))
    assert sum(size[0] for size in sizes if size[1] == 1) <= 1.7 * sum(map(len, written.values()))


def test_columns_are_given_up_before_they_run_out(
    module: GeneratingModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.generation.decoding.SPARE_COLUMNS", 2)
    lengths = [2, 6, 3, 1, 5, 2, 4, 3, 6, 2, 1, 5]
    new = module.new_ids(
        [prompt(length) for length in lengths],
        Decoding(
            max_new_tokens=7,
            sampler=Sampler(),
            num_rows=2,
            should_stop=lambda row, new: len(new) == 2 + row % 6,
        ),
        module.writer(),
    )
    for row, (length, found) in enumerate(zip(lengths, new, strict=True)):
        assert found == alone(module, length, 2 + row % 6)
