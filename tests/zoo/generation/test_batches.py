"""Rows that are written together: replaced, dropped and moved without touching each other."""

from typing import Any

import pytest
import torch

import zoo
from zoo.generation import Batch, Row, rows_of
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
    batch.make_room(0)
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
