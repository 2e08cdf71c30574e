"""Routers, experts and how evenly they are used, beside what is written out token by token."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from zoo.layers import Experts, Router, Routing, SparseFeedForward, balance_loss, initialize
from zoo.layers.grouped import grouped_linear, grouped_outer

WIDTHS = [(64, 96), (5, 3)]
"""Such as torch's own function takes, and such as it does not."""


def groups(sizes: list[int]) -> tuple[Tensor, Tensor]:
    """The number of each row's group, and where groups end."""
    counts = torch.tensor(sizes)
    return torch.arange(len(sizes)).repeat_interleave(counts), counts.cumsum(0).int()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("sizes", [[3, 0, 5, 1], [0, 0, 0, 9], [9, 0, 0, 0], [0, 0, 0, 0]])
def test_each_row_is_multiplied_by_its_groups_matrix(
    dtype: torch.dtype, widths: tuple[int, int], sizes: list[int]
) -> None:
    inputs, outputs = widths
    numbers, ends = groups(sizes)
    x = torch.randn(len(numbers), inputs, dtype=dtype, requires_grad=True)
    weight = torch.randn(len(sizes), outputs, inputs, dtype=dtype, requires_grad=True)
    found = grouped_linear(x, weight, ends)
    expected = torch.einsum("rd,rfd->rf", x, weight[numbers])
    slope = torch.randn_like(expected)
    assert_close(found, expected)
    gradients = torch.autograd.grad(found, (x, weight), slope)
    loose = {"rtol": 0.02, "atol": 0.1} if dtype == torch.bfloat16 else {}
    assert_close(gradients, torch.autograd.grad(expected, (x, weight), slope), **loose)


def test_grouped_products_are_operators_that_torch_can_trace() -> None:
    _, ends = groups([3, 0, 2])
    x, weight = (torch.randn(*shape, requires_grad=True) for shape in ((5, 6), (3, 4, 6)))
    torch.library.opcheck(grouped_linear, (x, weight, ends))
    torch.library.opcheck(grouped_outer, (torch.randn(5, 4), x.detach(), ends))


def test_their_operations_are_counted_without_computing() -> None:
    _, ends = groups([3, 0, 2])
    x, weight = (torch.randn(*shape, requires_grad=True, device="meta") for shape in ((5, 6), (3, 4, 6)))
    with FlopCounterMode(display=False) as counter:
        grouped_linear(x, weight, ends.to("meta")).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 5 * 6 * 4


def layer(num_chosen: int, *, normalizes: bool = True, jitter: float = 0.0) -> SparseFeedForward:
    router = Router(12, 5, num_chosen, normalizes=normalizes)
    made = SparseFeedForward(router, Experts(5, 12, 8, "silu", std=0.5), jitter=jitter)
    initialize(made, std=0.5)
    return made


@pytest.mark.parametrize("normalizes", [True, False])
@pytest.mark.parametrize("num_chosen", [1, 3, 5])
def test_a_token_is_the_weighted_sum_of_its_likeliest_experts(num_chosen: int, normalizes: bool) -> None:
    sparse = layer(num_chosen, normalizes=normalizes)
    x = torch.randn(2, 4, 12)
    output, routing = sparse(x)
    experts = sparse.experts
    for token, found in zip(x.flatten(0, 1), output.flatten(0, 1), strict=True):
        likely = torch.softmax(sparse.router.weight @ token, 0)
        chosen = likely.argsort(descending=True)[:num_chosen]
        share = likely[chosen].sum() if normalizes else 1
        expected = sum(
            likely[number] / share * (experts.down[number] @ (gate / (1 + torch.exp(-gate)) * up))
            for number in chosen
            for gate, up in [(experts.gate[number] @ token, experts.up[number] @ token)]
        )
        assert_close(found, expected)
    assert_close(routing.probabilities_NE.sum(-1), torch.ones(8))


def test_bfloat16_is_computed_where_autocast_asks_for_it() -> None:
    sparse, x = layer(2), torch.randn(2, 4, 12)
    expected, _ = sparse(x)
    with torch.autocast("cpu", torch.bfloat16):
        found, routing = sparse(x)
    assert (found.dtype, routing.probabilities_NE.dtype) == (torch.bfloat16, torch.float32)
    found.float().sum().backward()
    assert sparse.experts.gate.grad.dtype == torch.float32  # type: ignore[union-attr]
    assert_close(found.float(), expected, rtol=0.1, atol=0.1)


def test_what_is_read_is_shaken_in_training_alone() -> None:
    still, shaken, x = layer(2), layer(2, jitter=0.1), torch.randn(2, 4, 12)
    shaken.load_state_dict(still.state_dict())
    assert torch.equal(shaken.eval()(x)[0], still(x)[0])
    torch.manual_seed(1)
    factors = torch.empty(2, 4, 12).uniform_(0.9, 1.1)
    torch.manual_seed(1)
    assert_close(shaken.train()(x)[0], still(x * factors)[0])


def routed(chosen: list[list[int]], probabilities: list[list[float]]) -> Routing:
    return Routing(torch.tensor(probabilities), torch.empty(0), torch.tensor(chosen))


def test_experts_that_are_used_alike_cost_as_many_as_a_token_goes_through() -> None:
    even = routed([[0, 1], [2, 3], [1, 2], [3, 0]], [[0.25] * 4] * 4)
    assert_close(balance_loss([even], None), torch.tensor(2.0))
    assert_close(balance_loss([even, even], None), torch.tensor(2.0))
    one = routed([[0]] * 3, [[1.0, 0, 0, 0]] * 3)
    assert_close(balance_loss([one], None), torch.tensor(4.0))


def test_padding_does_not_count() -> None:
    four = routed([[0], [1], [0], [0]], [[0.7, 0.3], [0.2, 0.8], [0.9, 0.1], [0.6, 0.4]])
    two = routed([[0], [1]], [[0.7, 0.3], [0.2, 0.8]])
    real = torch.tensor([[True, True], [False, False]])
    assert_close(balance_loss([four], real), balance_loss([two], None))
    assert float(balance_loss([four], torch.zeros_like(real))) == 0


def test_gradients_come_by_the_probabilities() -> None:
    sparse, x = layer(2), torch.randn(1, 6, 12)
    _, routing = sparse(x)
    balance_loss([routing], None).backward()
    assert sparse.router.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert sparse.experts.gate.grad is None


def test_experts_start_as_spread_as_they_are_told() -> None:
    experts: Any = Experts(4, 64, 96, "silu", std=0.3)
    initialize(experts, std=0.02)
    for weight in (experts.gate, experts.up, experts.down):
        assert weight.std().item() == pytest.approx(0.3, rel=0.05)
