"""Steps over columns whose number does not change, as a compiled step or a CUDA graph needs them."""

import dataclasses
from typing import Any

import pytest
import torch

import zoo
from zoo.generation import Batch, Decoding, Model, Sampler, decode, fixed_step, rows_of
from zoo.modules import DecoderModule

LENGTHS = [7, 3, 15, 2, 9, 1, 4, 11]
PROMPTS = [
    torch.randint(3, 96, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    for length in LENGTHS
]


def module_of(family: str, device: str = "cpu") -> DecoderModule:
    torch.manual_seed(0)
    spec = getattr(zoo.decoders, family)
    module = DecoderModule(backbone=spec(**{**spec.tiny, "initializer_range": 0.3}))
    module.build()
    return module.eval().to(device)


def written(model: Model, num_rows: int) -> dict[int, list[int]]:
    """What a model writes about all prompts, with answers of several lengths."""

    def stops(row: int, new: list[int]) -> bool:
        return len(new) > row + 1

    decoding = Decoding(max_new_tokens=7, sampler=Sampler(), should_stop=stops, num_rows=num_rows)
    found: dict[int, list[int]] = {}
    for step in decode(model, rows_of(PROMPTS), decoding):
        for index, tokens in step.items():
            found.setdefault(index, []).extend(tokens)
    return found


@pytest.mark.parametrize("family", ["Llama", "GPT2", "TransformerLM", "Gemma3Text"])
def test_rows_are_the_same_where_the_columns_are_there_from_the_start(family: str) -> None:
    module = module_of(family)
    model = module.model_under(module.head())
    calls: list[Any] = []
    step = fixed_step(model)

    def counted(ids_B1: Any, cache: Any) -> Any:
        calls.append(cache.real_BS.shape)
        return step(ids_B1, cache)

    fixed = dataclasses.replace(model, fixed_step=counted)
    for num_rows in (1, 3, 8):
        assert written(fixed, num_rows) == written(model, num_rows)
    # What keeps a window's columns alone has others at each step.
    assert {shape[1] for shape in calls} == (set() if family == "Gemma3Text" else {256})


def test_logits_are_the_same_to_rounding() -> None:
    module = module_of("Llama")
    model = module.model_under(module.head())
    fixed = dataclasses.replace(model, fixed_step=fixed_step(model))
    growing, steady = Batch(model, 40), Batch(fixed, 40)
    rows = rows_of(PROMPTS[:3])
    torch.testing.assert_close(growing.begin(rows), steady.begin(rows))
    for token in (5, 9, 30, 7):
        for row in rows:
            row.ids.append(token)
        torch.testing.assert_close(growing.step(), steady.step(), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")  # tables
def test_one_graph_serves_every_step() -> None:
    module = module_of("Llama")
    model = module.model_under(module.head())
    step = torch.compile(fixed_step(model), backend="eager", fullgraph=True, dynamic=False)
    batch = Batch(dataclasses.replace(model, fixed_step=step), 40)
    (row,) = rows_of(PROMPTS[:1])
    logits = batch.begin([row])
    for number in range(6):
        row.ids.append(int(logits.argmax()))
        with torch.compiler.set_stance("fail_on_recompile" if number else "default"):
            logits = batch.step()
    assert [row.new] == module.new_ids(
        PROMPTS[:1], Decoding(max_new_tokens=6, sampler=Sampler()), module.writer()
    )


@pytest.mark.gpu
@pytest.mark.parametrize("family", ["Llama", "GPT2"])
def test_a_graph_on_a_gpu_writes_what_single_kernels_do(family: str) -> None:
    module = module_of(family, "cuda")
    ids = torch.tensor([PROMPTS[0]], device="cuda")
    choices: dict[str, Any] = {"max_new_tokens": 20}
    for given in (ids, torch.cat((ids, ids.flip(1)))):
        assert module.generate(given, compile=True, **choices) == module.generate(given, **choices)
