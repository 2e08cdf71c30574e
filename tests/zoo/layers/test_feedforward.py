"""What is done to each token by itself."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from transformers.activations import ACT2FN

from zoo.layers import ACTIVATIONS, FeedForward, GatedFeedForward


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_are_those_of_the_hub(name: str) -> None:
    x = torch.linspace(-6, 6, 101)
    assert_close(ACTIVATIONS[name](x), ACT2FN[name](x), rtol=1e-6, atol=1e-6)


def test_a_feedforward_widens_bends_and_narrows() -> None:
    layer, x = FeedForward(6, 10, "gelu"), torch.randn(2, 3, 6)
    wide = F.gelu(x @ layer.up.weight.T + layer.up.bias)
    assert_close(layer(x), wide @ layer.down.weight.T + layer.down.bias)


def test_the_gate_goes_through_the_activation() -> None:
    layer, x = GatedFeedForward(6, 10, "silu"), torch.randn(2, 3, 6)
    wide = F.silu(x @ layer.gate.weight.T) * (x @ layer.up.weight.T)
    assert_close(layer(x), wide @ layer.down.weight.T)


@pytest.mark.parametrize("kind", [FeedForward, GatedFeedForward])
@pytest.mark.parametrize("bias", [True, False])
def test_biases_are_there_where_they_are_asked_for(
    kind: type[FeedForward] | type[GatedFeedForward], bias: bool
) -> None:
    names = {name.rpartition(".")[2] for name, _ in kind(6, 10, "relu", bias=bias).named_parameters()}
    assert names == ({"weight", "bias"} if bias else {"weight"})


def test_channels_are_dropped_in_training_alone() -> None:
    layer, x = FeedForward(6, 10, "relu", dropout=0.5), torch.randn(2, 3, 6)
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("kind", [FeedForward, GatedFeedForward])
def test_under_autocast_products_are_in_bfloat16(
    kind: type[FeedForward] | type[GatedFeedForward],
) -> None:
    layer, x = kind(6, 10, "silu"), torch.randn(2, 3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x)
    assert output.dtype == torch.bfloat16
    assert_close(output.float(), layer(x), rtol=0.05, atol=0.05)
