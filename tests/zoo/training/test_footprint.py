"""What is counted without a device is what a run takes."""

from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import zoo
from zoo.modules.base import ZooModule
from zoo.training.footprint import Footprint, Plan, footprint

SIZES: dict[str, Any] = {
    "vocab_size": 2000,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 6,
}
WITHOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def modules() -> list[ZooModule]:
    return [
        zoo.modules.DecoderModule(zoo.decoders.Llama(**SIZES, num_attention_heads=4)),
        zoo.modules.EncoderModule(
            zoo.encoders.Bert(**SIZES, num_attention_heads=4, **WITHOUT), zoo.heads.MaskedLM()
        ),
        zoo.modules.EncoderDecoderModule(
            zoo.encoder_decoders.T5(
                **{**SIZES, "num_hidden_layers": 3}, num_attention_heads=4, head_dim=32, dropout_rate=0.0
            )
        ),
    ]


def measured(module: ZooModule, plan: Plan) -> int:
    """The most bytes held at once in a step of AdamW, as torch's profiler saw them."""
    module.build()
    optimizer = torch.optim.AdamW(module.parameters(), foreach=False)
    ids = torch.randint(1, 2000, (plan.rows, plan.tokens))

    def step() -> None:
        optimizer.zero_grad()
        batch = {"input_ids": ids, "labels": ids}
        module.head().loss(module.hidden_states(batch), batch).mean.backward()
        optimizer.step()

    step()
    optimizer.zero_grad()
    held = 3 * sum(part.numel() * 4 for part in module.parameters())  # weights and two moments
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    moves = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(moves, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return held + most


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("module", modules(), ids=lambda module: type(module.spec).__name__)
def test_the_count_is_within_a_tenth_of_what_a_step_takes(module: ZooModule, rows: int) -> None:
    plan = Plan(rows=rows, tokens=128)
    module = type(module)(**module.hparams)
    with torch.device("meta"):
        _, heads = module.networks()
    expected = footprint(module.spec, heads["head"], plan).peak()
    assert expected == pytest.approx(measured(module, plan), rel=0.1)


def counted(**choices: Any) -> Footprint:
    spec = zoo.decoders.Llama(**SIZES, num_attention_heads=4)
    with torch.device("meta"):
        head = zoo.heads.CausalLM().build(spec)
    return footprint(spec, head, Plan(**choices))


def test_what_is_shared_is_a_share() -> None:
    one, eight = counted(), counted(devices=8)
    assert (one.sharding_traffic, one.gathered) == (0, 0)
    assert eight.optimizer == one.optimizer / 8
    assert eight.activations == one.activations
    assert counted(devices=64).sharding_traffic == pytest.approx(eight.sharding_traffic * 9 / 8)


def test_what_is_divided_is_smaller_within_layers_only() -> None:
    one, two = counted(), counted(devices=2, tensor_parallel_size=2)
    assert one.weights / 2 < two.weights < one.weights
    assert one.activations / 2 < two.activations < one.activations
    assert two.tensor_traffic > 0 == one.tensor_traffic


def test_a_norm_over_all_heads_is_counted_whole() -> None:
    spec = zoo.decoders.Olmo2(**SIZES, num_attention_heads=4)
    with torch.device("meta"):
        head = zoo.heads.CausalLM().build(spec)
    one, two = (footprint(spec, head, Plan(devices=size, tensor_parallel_size=size)) for size in (1, 2))
    assert one.weights / 2 < two.weights < one.weights


def test_blocks_that_are_recomputed_keep_less() -> None:
    assert counted().recomputed < counted().activations / 2


def test_counting_leaves_no_table_behind() -> None:
    counted()
    model = modules()[0]
    model.build()
    assert torch.isfinite(model(torch.ones(1, 4, dtype=torch.long)).logits).all()
