"""Fresh weights, and modules that were built without memory."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import zoo
from zoo.errors import SpecError
from zoo.layers import RMSNorm, fill, fill_row, initialize, materialize
from zoo.modules import DecoderModule


def test_matrices_have_the_deviation_biases_are_zero_and_norms_one() -> None:
    net = nn.Sequential(nn.Embedding(400, 300), nn.Linear(300, 400), nn.LayerNorm(400), RMSNorm(400, 1e-6))
    for parameter in net.parameters():
        nn.init.constant_(parameter, 7.0)
    initialize(net, 0.03)
    for matrix in (net[0].weight, net[1].weight):
        assert abs(matrix.mean().item()) < 5e-4  # type: ignore[operator]
        assert abs(matrix.std().item() - 0.03) < 5e-4  # type: ignore[operator]
    assert not net[1].bias.any()  # type: ignore[operator]
    assert not net[2].bias.any()  # type: ignore[operator]
    for norm in (net[2], net[3]):
        assert torch.equal(norm.weight, torch.ones(400))


@pytest.mark.parametrize("family", ["Llama", "TransformerLM"])
def test_a_fresh_model_starts_as_its_spec_says(family: str) -> None:
    spec = getattr(zoo.decoders, family)
    sizes = {**spec.tiny, "vocab_size": 600, "hidden_size": 64, "initializer_range": 0.05}
    module = DecoderModule(backbone=spec(**sizes))
    module.build()
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.ndim == 1:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            assert abs(parameter.std().item() - 0.05) < 0.004, name


def test_the_seed_decides_the_weights() -> None:
    def weights() -> torch.Tensor:
        torch.manual_seed(3)
        layer = nn.Linear(4, 5)
        initialize(layer, 1.0)
        return layer.weight

    assert torch.equal(weights(), weights())


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.full((2,), 3.0))


def test_a_parameter_that_nothing_would_fill_is_refused() -> None:
    with torch.device("meta"):
        net = nn.Sequential(Scaled())
    materialize(net)
    with pytest.raises(SpecError) as caught:
        initialize(net, 0.02)
    assert caught.value.message == (
        "Scaled has `scale` and no `reset_parameters`, so nothing gives it a fresh value"
    )


def test_a_part_may_start_otherwise() -> None:
    class Threes(Scaled):
        def reset_parameters(self) -> None:
            nn.init.constant_(self.scale, 3.0)

    with torch.device("meta"):
        net = nn.Sequential(Threes())
    materialize(net)
    initialize(net, 0.02)
    assert net[0].scale.tolist() == [3.0, 3.0]


def test_materialising_gives_memory_on_the_device_and_keeps_dtypes() -> None:
    with torch.device("meta"):
        net = nn.Linear(3, 4).to(torch.bfloat16)
    materialize(net, "cpu")
    assert {(parameter.device.type, parameter.dtype) for parameter in net.parameters()} == {
        ("cpu", torch.bfloat16)
    }


def test_a_buffer_that_no_checkpoint_fills_is_refused() -> None:
    with torch.device("meta"):
        net = nn.Linear(3, 4)
        net.register_buffer("table", torch.zeros(3), persistent=False)
    with pytest.raises(AssertionError) as caught:
        materialize(net)
    assert str(caught.value) == "no checkpoint fills ['table']: compute such tables where they are used"


@pytest.fixture
def processes() -> Any:
    """Two by two processes, of which only the last is there."""
    torch.distributed.init_process_group("fake", store=torch.distributed.HashStore(), rank=3, world_size=4)
    yield init_device_mesh("cpu", (2, 2))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(
    "placements",
    [
        (Replicate(), Replicate()),
        (Shard(0), Replicate()),
        (Shard(0), Shard(1)),
        (Shard(0), Shard(2)),
        (Shard(2), Shard(1)),
    ],
)
def test_rows_of_a_stack_that_is_spread_fill_each_processs_part(
    processes: Any, placements: Any, size: int
) -> None:
    whole = torch.randn(size, 4, 6)
    expected = distribute_tensor(whole, processes, placements, src_data_rank=None)
    found = distribute_tensor(torch.zeros_like(whole), processes, placements, src_data_rank=None)
    for row, tensor in enumerate(whole):
        fill_row(found, row, tensor)
    assert torch.equal(found.to_local(), expected.to_local())


DRAWS = {
    "normal": lambda weight: weight.normal_(std=0.1),
    "uniform": lambda weight: nn.init.uniform_(weight, -1, 1),
    "kaiming": nn.init.kaiming_uniform_,
    "orthogonal": lambda weight: fill(weight, nn.init.orthogonal_),
    "modernbert": zoo.encoders.ModernBert(
        **{**zoo.encoders.ModernBert.tiny, "initializer_cutoff_factor": 0.7}
    ).start,
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_weight_that_is_spread_starts_as_that_of_one_process(processes: Any, draw: Any) -> None:
    class Part(nn.Module):
        def __init__(self, weight: torch.Tensor) -> None:
            super().__init__()
            self.weight = nn.Parameter(weight)

        def reset_parameters(self) -> None:
            for _ in range(3):  # numbers that one draw takes too few of would show in the next
                draw(self.weight)

    places = [Shard(0), Shard(1)]
    alone = Part(torch.zeros(6, 4))
    spread = Part(distribute_tensor(torch.zeros(6, 4), processes, places, src_data_rank=None))
    for part in (alone, spread):
        torch.manual_seed(5)
        initialize(part, 1.0)
    expected = distribute_tensor(alone.weight.detach(), processes, places, src_data_rank=None)
    assert expected.to_local().any()
    assert torch.equal(spread.weight.detach().to_local(), expected.to_local())  # type: ignore[attr-defined]
