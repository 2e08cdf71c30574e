"""RMSNorm beside transformers' own."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from zoo.layers import RMSNorm, initialize


def both(width: int, eps: float) -> tuple[RMSNorm, LlamaRMSNorm]:
    ours, theirs = RMSNorm(width, eps), LlamaRMSNorm(width, eps)
    with torch.no_grad():
        theirs.weight.normal_(1, 0.3)
        ours.weight.copy_(theirs.weight)
    return ours, theirs


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_rms_norm_equals_transformers_bitwise(dtype: torch.dtype, scale: float) -> None:
    ours, theirs = (norm.to(dtype) for norm in both(64, 1e-6))
    x = (torch.randn(3, 50, 64) * scale).to(dtype)
    output = ours(x)
    assert output.dtype == dtype
    assert torch.equal(output, theirs(x))


def test_a_float32_weight_on_bfloat16_hidden_states_equals_transformers() -> None:
    ours, theirs = both(32, 1e-5)
    x = torch.randn(2, 7, 32).bfloat16()
    output = ours(x)
    assert output.dtype == torch.float32
    assert torch.equal(output, theirs(x))


def test_a_fresh_norm_only_divides() -> None:
    norm = RMSNorm(16, 0.0)
    initialize(norm, 0.02)
    output = norm(torch.randn(5, 16) * 9)
    torch.testing.assert_close(output.square().mean(-1), torch.ones(5))


def test_gradients_are_those_of_finite_differences() -> None:
    norm = RMSNorm(6, 1e-6)
    initialize(norm, 0.02)
    x = torch.randn(4, 6, requires_grad=True)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    slope = torch.randn(4, 6)
    (ours,) = torch.autograd.grad(norm(x), x, slope)
    (theirs,) = torch.autograd.grad(expected, x, slope)
    torch.testing.assert_close(ours, theirs)
