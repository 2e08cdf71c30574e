"""Attention beside a softmax written out in float64."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from zoo.generation import LayerCache
from zoo.layers import Attention, Mask, RotaryPositions, attend

PADDINGS = ("none", "left", "right", "both", "a whole row")


@dataclass(frozen=True)
class Case:
    """Shapes and what is seen of one call."""

    batch: int
    groups: int
    repeats: int
    width: int
    num_keys: int
    num_queries: int
    is_causal: bool
    padding: str
    seed: int

    def tensors(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.seed)

        def drawn(heads: int, tokens: int) -> Tensor:
            shape = self.batch, heads, tokens, self.width
            values = torch.randn(shape, generator=generator, dtype=torch.float64) * 2
            return values.to(dtype).requires_grad_()

        return (
            drawn(self.groups * self.repeats, self.num_queries),
            drawn(self.groups, self.num_keys),
            drawn(self.groups, self.num_keys),
        )

    def real(self) -> Tensor | None:
        if self.padding == "none":
            return None
        real = torch.ones(self.batch, self.num_keys, dtype=torch.bool)
        for row in range(self.batch):
            hidden = (row + 1) % self.num_keys
            if self.padding in ("left", "both"):
                real[row, :hidden] = False
            if self.padding in ("right", "both"):
                real[row, self.num_keys - hidden :] = False
        if self.padding == "a whole row":
            real[-1] = False
        return real

    def mask(self) -> Mask:
        return Mask(self.real(), self.is_causal)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    num_keys = draw(st.integers(1, 8))
    return Case(
        batch=draw(st.integers(1, 3)),
        groups=draw(st.integers(1, 3)),
        repeats=draw(st.integers(1, 3)),
        width=draw(st.sampled_from([1, 2, 5, 8])),
        num_keys=num_keys,
        num_queries=draw(st.integers(1, num_keys)),
        is_causal=draw(st.booleans()),
        padding=draw(st.sampled_from(PADDINGS)),
        seed=draw(st.integers(0, 2**16)),
    )


def written_out(case: Case, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Query by query, each over the list of the keys that it sees."""
    real, past = case.real(), case.num_keys - case.num_queries
    scale = 1 / math.sqrt(case.width) if scale is None else scale
    rows = []
    for b in range(case.batch):
        for h in range(case.groups * case.repeats):
            for t in range(case.num_queries):
                seen = [
                    s
                    for s in range(case.num_keys)
                    if s == t + past
                    or ((real is None or real[b, s]) and (not case.is_causal or s <= t + past))
                ]
                keys, values = k[b, h // case.repeats, seen], v[b, h // case.repeats, seen]
                weights = torch.softmax(keys @ q[b, h, t] * scale, 0)
                rows.append(weights @ values)
    return torch.stack(rows).view_as(q)


@settings(deadline=None, max_examples=120, derandomize=True)
@given(case=cases())
def test_attention_and_its_gradients_equal_a_dense_softmax(case: Case) -> None:
    ours, theirs = case.tensors(), case.tensors()
    output, expected = attend(*ours, case.mask()), written_out(case, *theirs)
    assert_close(output, expected, rtol=1e-10, atol=1e-10)
    slope = torch.randn_like(expected)
    torch.autograd.backward((output, expected), (slope, slope))
    for mine, reference in zip(ours, theirs, strict=True):
        assert_close(mine.grad, reference.grad, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(case=cases())
def test_in_float32_attention_stays_within_rounding(case: Case) -> None:
    output = attend(*case.tensors(torch.float32), case.mask())
    expected = written_out(case, *(tensor.double() for tensor in case.tensors(torch.float32)))
    assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)


def test_the_scale_of_the_scores_can_be_given() -> None:
    case = Case(1, 2, 1, 4, 5, 5, True, "none", 0)
    q, k, v = case.tensors()
    assert_close(attend(q, k, v, case.mask(), scale=0.1), written_out(case, q, k, v, 0.1))


def attention(**sizes: int) -> Attention:
    layer = Attention(12, 6, num_key_value_heads=2, head_dim=4, bias=True)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


@settings(deadline=None, max_examples=40, derandomize=True)
@given(left=st.integers(0, 4), right=st.integers(0, 4), tokens=st.integers(1, 6), is_causal=st.booleans())
def test_padding_never_changes_the_tokens_beside_it(
    left: int, right: int, tokens: int, is_causal: bool
) -> None:
    layer, positions = attention(), RotaryPositions(4)
    alone = torch.randn(2, tokens, 12)
    padded = torch.full((2, left + tokens + right, 12), 1e4)
    padded[:, left : left + tokens] = alone
    real = torch.zeros(padded.shape[:2], dtype=torch.bool)
    real[:, left : left + tokens] = True
    mask = Mask(real, is_causal)
    output = layer(padded, mask, positions(mask.positions(padded)))
    bare = Mask(None, is_causal)
    expected = layer(alone, bare, positions(bare.positions(alone)))
    assert_close(output[:, left : left + tokens], expected, rtol=1e-4, atol=1e-4)
    assert output.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_of_padding_alone_is_never_nan(dtype: torch.dtype) -> None:
    layer = attention().to(dtype)
    x = torch.randn(2, 5, 12, dtype=dtype, requires_grad=True)
    real = torch.tensor([[True] * 5, [False] * 5])
    for is_causal in (True, False):
        output = layer(x, Mask(real, is_causal))
        (slope,) = torch.autograd.grad(output.sum(), x)
        assert output.isfinite().all()
        assert slope.isfinite().all()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(pieces=st.lists(st.integers(1, 4), min_size=1, max_size=4), padding=st.sampled_from(["none", "left"]))
def test_a_text_in_pieces_through_the_cache_equals_the_whole(pieces: list[int], padding: str) -> None:
    layer, positions = attention(), RotaryPositions(4)
    x = torch.randn(2, sum(pieces), 12)
    real = torch.ones(x.shape[:2], dtype=torch.bool)
    real[1, : pieces[0] - 1] = False
    whole = Mask(None if padding == "none" else real).causal()
    expected = layer(x, whole, positions(whole.positions(x)))
    cache, outputs, past = LayerCache(sum(pieces)), [], 0
    for length in pieces:
        mask = Mask(None if padding == "none" else real[:, : past + length]).causal()
        piece = x[:, past : past + length]
        outputs.append(layer(piece, mask, positions(mask.positions(piece, past)), cache))
        past += length
    assert_close(torch.cat(outputs, 1), expected, rtol=1e-5, atol=1e-5)


def test_weights_are_dropped_in_training_alone() -> None:
    layer = Attention(8, 2, dropout=0.5)
    x = torch.randn(1, 6, 8)
    layer.eval()
    assert_close(layer(x, Mask()), layer(x, Mask()), rtol=0, atol=0)
    layer.train()
    assert not torch.allclose(layer(x, Mask()), layer(x, Mask()))


def test_under_autocast_attention_computes_in_bfloat16() -> None:
    layer, x = attention(), torch.randn(1, 6, 12)
    expected = layer(x, Mask(is_causal=True))
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x, Mask(is_causal=True))
    assert output.dtype == torch.bfloat16
    assert_close(output.float(), expected, rtol=0.1, atol=0.1)
