"""What of a model is a block, and how its layers are divided; nothing is spread here."""

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

import zoo
from zoo import registry
from zoo.errors import SpecError
from zoo.layers import HeadAttention
from zoo.specs import BackboneSpec
from zoo.training import sharding

FAMILIES = [
    spec
    for group in ("zoo.encoders", "zoo.decoders", "zoo.encoder_decoders")
    for spec in registry.usable(group).values()
    if spec.tiny
]


def built(spec: BackboneSpec) -> nn.Module:
    with torch.device("meta"):
        return spec.build()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_family_repeats_are_its_blocks(family: type[BackboneSpec]) -> None:
    model = built(family(**family.tiny))
    blocks = sharding.blocks(model)
    sides = 2 if family.shape == "encoder-decoder" else 1
    assert len(blocks) == sides * family.tiny["num_hidden_layers"]
    in_blocks = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    assert in_blocks > sum(parameter.numel() for parameter in model.parameters()) / 2


def test_a_list_within_a_block_is_no_block() -> None:
    block = nn.Module()
    block.experts = nn.ModuleList([nn.Linear(2, 2)])
    model = nn.Module()
    model.stack = nn.Module()
    model.stack.blocks = nn.ModuleList([block])
    assert sharding.blocks(model) == [block]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_layer_says_is_divided_is_there(family: type[BackboneSpec]) -> None:
    for layer in built(family(**family.tiny)).modules():
        said = getattr(layer, "tensor_parallel", {})
        plan = dict(sharding.divided(layer))
        assert bool(plan or sharding.stacked(layer)) == bool(said)
        for name, style in plan.items():
            is_divided = isinstance(layer.get_submodule(name), nn.Linear | nn.Embedding)
            assert is_divided == (style not in sharding.WHOLE)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_divided_or_the_spec_says_why_not(family: type[BackboneSpec]) -> None:
    layers = [layer for layer in built(family(**family.tiny)).modules() if isinstance(layer, HeadAttention)]
    assert all(bool(dict(sharding.divided(layer))) != bool(family.undivided) for layer in layers)


@pytest.fixture
def processes() -> object:
    """Four processes, of which only this one is there."""
    torch.distributed.init_process_group("fake", store=torch.distributed.HashStore(), rank=0, world_size=4)
    yield init_device_mesh("cpu", (4,))
    torch.distributed.destroy_process_group()


def test_heads_that_processes_cannot_share_are_refused(processes: object) -> None:
    model = built(zoo.decoders.Llama(**zoo.decoders.Llama.tiny))
    with pytest.raises(SpecError) as caught:
        sharding.divide(model, processes)
    assert str(caught.value) == (
        "`blocks.0.attention.key` has 2 heads of 8 channels, which 4 processes cannot share evenly\n"
        "  at    trainer.strategy.init_args.tensor_parallel_size\n"
        "  use a tensor_parallel_size that divides 2"
    )


def test_heads_whose_queries_keys_and_values_are_one_product_are_counted_whole(processes: object) -> None:
    model = built(zoo.decoders.GPTNeoX(**{**zoo.decoders.GPTNeoX.tiny, "num_attention_heads": 2}))
    with pytest.raises(SpecError) as caught:
        sharding.divide(model, processes)
    assert caught.value.message == (
        "`blocks.0.attention.output` has 2 heads of 16 channels, which 4 processes cannot share evenly"
    )


def test_channels_that_processes_cannot_share_are_refused(processes: object) -> None:
    sizes = {**zoo.decoders.Llama.tiny, "num_key_value_heads": 4, "intermediate_size": 54}
    with pytest.raises(SpecError) as caught:
        sharding.divide(built(zoo.decoders.Llama(**sizes)), processes)
    assert caught.value.message == (
        "`blocks.0.feedforward.gate` has 54 channels, which 4 processes cannot share evenly"
    )


def test_a_model_that_cannot_be_divided_is_refused(processes: object) -> None:
    module = zoo.modules.DecoderModule(zoo.decoders.GPT2(**zoo.decoders.GPT2.tiny))
    module.backbone = built(module.spec)
    with pytest.raises(SpecError) as caught:
        sharding.divide(module, processes)
    assert str(caught.value) == (
        "none of the model's layers can be divided by tensor parallelism: "
        "queries, keys and values are thirds of one product\n"
        "  at    trainer.strategy.init_args.tensor_parallel_size\n"
        "  set tensor_parallel_size to 1, and shard the model"
    )


def test_an_experts_channels_that_processes_cannot_share_are_refused(processes: object) -> None:
    sizes = {**zoo.decoders.Mixtral.tiny, "num_key_value_heads": 4, "intermediate_size": 42}
    with pytest.raises(SpecError) as caught:
        sharding.divide(built(zoo.decoders.Mixtral(**sizes)), processes)
    assert caught.value.message == (
        "`blocks.0.feedforward.experts.gate` has 42 channels, which 4 processes cannot share evenly"
    )


def test_a_stack_of_fewer_experts_than_processes_is_shared_by_its_channels(processes: object) -> None:
    model = built(zoo.decoders.Mixtral(**{**zoo.decoders.Mixtral.tiny, "num_local_experts": 2}))
    sharding.shard(model, processes, None)
    experts = model.blocks[0].feedforward.experts
    assert [part.to_local().shape for part in (experts.gate, experts.down)] == [(2, 10, 32), (2, 8, 40)]
    assert model.blocks[0].attention.query.weight.to_local().shape == (8, 32)
