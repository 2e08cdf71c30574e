"""Products that are read slice by slice are the same products."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from zoo.layers import Linear, product


class Calls(TorchFunctionMode):
    """The names of the functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def is_sliced(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> bool:
    with Calls() as calls:
        product(x, weight_OI, bias_O)
    assert ("bmm" in calls.names) != ("linear" in calls.names)
    return "bmm" in calls.names


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (4, 1), (5, 1), (2, 16), (3, 2, 5), (7, 33), (0, 1)])
@pytest.mark.parametrize("sizes", [(32, 48), (51, 17), (5, 7), (1, 3), (67, 71)])
def test_few_rows_are_mapped_as_by_torch(
    sizes: tuple[int, int], shape: tuple[int, ...], is_transposed: bool
) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(*sizes), torch.randn(*shape, sizes[0])
    weight = layer.weight.detach()
    weight = weight.t().contiguous().t() if is_transposed else weight
    with torch.inference_mode():
        for bias in (None, layer.bias):
            for given in (x, torch.cat((x, x), -1)[..., : sizes[0]]):
                found = product(given, weight, bias)
                assert_close(found, F.linear(given, weight, bias))
                assert found.is_contiguous()


@torch.no_grad()
def test_few_rows_are_read_slice_by_slice_and_many_at_once() -> None:
    weight = torch.randn(48, 32)
    for given in (weight, weight.t().contiguous().t(), nn.Parameter(weight)):
        assert is_sliced(torch.randn(8, 16, 32), given, torch.randn(48))
        assert not is_sliced(torch.randn(3, 43, 32), given)


def test_gradients_and_tensors_of_other_kinds_are_torchs_own() -> None:
    x, weight = torch.randn(1, 32), torch.randn(48, 32)
    assert not is_sliced(x, weight)
    with torch.no_grad():
        assert not is_sliced(x.bfloat16(), weight.bfloat16())
        assert not is_sliced(x.to("meta"), weight.to("meta"))
        with torch.autocast("cpu", torch.bfloat16):
            assert not is_sliced(x, weight)
            assert product(x, weight).dtype == torch.bfloat16


def test_a_compiled_layer_is_one_graph_and_an_exported_one_takes_any_number_of_rows() -> None:
    layer = Linear(32, 48)
    with torch.no_grad():
        compiled = torch.compile(layer, fullgraph=True, backend="eager")
        for x in (torch.randn(1, 1, 32), torch.randn(4, 1, 32), torch.randn(9, 19, 32)):
            assert_close(compiled(x), layer(x))
        rows = torch.export.Dim("rows")
        exported = torch.export.export(layer, (torch.randn(3, 32),), dynamic_shapes=({0: rows},)).module()
        for x in (torch.randn(2, 32), torch.randn(190, 32)):
            assert_close(exported(x), layer(x))


def test_it_trains_as_torchs_own() -> None:
    torch.manual_seed(0)
    mine, theirs = Linear(5, 7), nn.Linear(5, 7)
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(4, 5)
    for layer in (mine, theirs):
        layer(x).square().sum().backward()
    assert torch.equal(mine.weight.grad, theirs.weight.grad)
    assert torch.equal(mine.bias.grad, theirs.bias.grad)
