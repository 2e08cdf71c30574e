"""Attention beside a softmax written out in float64."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from torch.testing import assert_close

from zoo.generation import LayerCache
from zoo.layers import Attention, CrossAttention, Mask, RotaryPositions, attend
from zoo.layers.kernels import KERNELS, Call, Kernel, block_wise

from .views import View, views


@dataclass(frozen=True)
class Case:
    """Shapes and what is seen of one call."""

    view: View
    groups: int
    repeats: int
    width: int
    num_queries: int
    has_bias: bool
    seed: int

    @property
    def num_keys(self) -> int:
        return len(self.view.documents[0])

    @property
    def batch(self) -> int:
        return len(self.view.documents)

    def drawn(self, *shape: int, salt: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed + salt)
        return torch.randn(shape, generator=generator, dtype=torch.float64) * 2

    def tensors(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys, values and a bias, leaves of the graph."""
        heads = self.groups * self.repeats
        shapes = (
            (self.batch, heads, self.num_queries, self.width),
            (self.batch, self.groups, self.num_keys, self.width),
            (self.batch, self.groups, self.num_keys, self.width),
            (1, heads, self.num_queries, self.num_keys),
        )
        made = (self.drawn(*shape, salt=salt).to(dtype) for salt, shape in enumerate(shapes))
        q, k, v, bias = (tensor.requires_grad_() for tensor in made)
        return q, k, v, bias

    def mask(self, bias: Tensor) -> Mask:
        mask = self.view.mask()
        return mask.with_bias(bias) if self.has_bias else mask

    def is_real(self) -> Tensor:
        """Where answers are promised, (batch, 1, queries, 1)."""
        return torch.tensor(self.view.documents)[:, None, -self.num_queries :, None] > 0


@st.composite
def cases(draw: st.DrawFn) -> Case:
    view = draw(views())
    return Case(
        view,
        groups=draw(st.integers(1, 3)),
        repeats=draw(st.integers(1, 3)),
        width=draw(st.sampled_from([1, 2, 5, 8])),
        num_queries=draw(st.integers(1, len(view.documents[0]))),
        has_bias=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
    )


def written_out(
    case: Case, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float | None = None
) -> Tensor:
    """Query by query, each over the list of the keys that it sees; zeros for padding."""
    past = case.num_keys - case.num_queries
    scale = 1 / math.sqrt(case.width) if scale is None else scale
    rows = []
    for b in range(case.batch):
        for h in range(case.groups * case.repeats):
            for t in range(case.num_queries):
                seen = [s for s in range(case.num_keys) if case.view.sees(b, t + past, s)]
                keys, values = k[b, h // case.repeats, seen], v[b, h // case.repeats, seen]
                scores = keys @ q[b, h, t] * scale
                if case.has_bias:
                    scores = scores + bias[0, h, t, seen]
                is_real = case.view.documents[b][t + past] > 0
                rows.append(torch.softmax(scores, 0) @ values * is_real)
    return torch.stack(rows).view_as(q)


EAGER_BLOCKS = Kernel(
    "blocks, not compiled",
    lambda call: call.mask.bias_BHTS is None and not call.dropout,
    lambda call: block_wise(call, flex_attention),
)
WITHOUT_GRADIENTS = {"blocks", EAGER_BLOCKS.name}
"""torch's flex_attention has no backward on a CPU."""


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("kernel", [*KERNELS, EAGER_BLOCKS], ids=lambda kernel: kernel.name)
def test_every_kernel_gives_the_dense_answer_and_its_gradients(kernel: Kernel) -> None:
    """Counts the calls that a kernel could take, so that none passes by never being asked."""
    taken = 0
    num_cases = 30 if kernel.name == EAGER_BLOCKS.name else 200  # it is traced anew for each shape

    @settings(deadline=None, max_examples=num_cases, derandomize=True)
    @given(case=cases())
    def check(case: Case) -> None:
        nonlocal taken
        ours, theirs = case.tensors(), case.tensors()
        if kernel.name in WITHOUT_GRADIENTS:
            ours = tuple(tensor.detach() for tensor in ours)
        call = Call(*ours[:3], case.mask(ours[3]))
        if not kernel.can(call):
            return
        taken += 1
        output, expected = kernel.run(call), written_out(case, *theirs)
        assert_close(output * case.is_real(), expected, rtol=1e-10, atol=1e-10)
        if not output.requires_grad:
            assert kernel.name in WITHOUT_GRADIENTS
            return
        slope = torch.randn_like(expected) * case.is_real()
        torch.autograd.backward((output, expected), (slope, slope))
        for mine, reference in zip(ours, theirs, strict=True):
            if reference.grad is not None:
                assert_close(mine.grad, reference.grad, rtol=1e-9, atol=1e-9)

    check()
    runs_here = kernel.name in ("single", "plain", "dense", EAGER_BLOCKS.name)
    assert (taken > num_cases / 10) == runs_here


@settings(deadline=None, max_examples=60, derandomize=True)
@given(case=cases())
def test_in_float32_attention_stays_within_rounding(case: Case) -> None:
    q, k, v, bias = case.tensors(torch.float32)
    output = attend(q, k, v, case.mask(bias)) * case.is_real()
    expected = written_out(case, *(tensor.double() for tensor in (q, k, v, bias)))
    assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@settings(deadline=None, max_examples=200, derandomize=True)
@given(case=cases())
def test_on_a_gpu_packed_rows_equal_the_dense_answer(case: Case) -> None:
    case = replace(case, width=64)
    q, k, v = (tensor.detach().cuda().bfloat16() for tensor in case.tensors()[:3])
    on_gpu = Mask(torch.tensor(case.view.documents).cuda(), case.view.is_causal, case.view.reach)
    output = attend(q, k, v, on_gpu) * case.is_real().cuda()
    dense = KERNELS[-1].run(Call(q.float(), k.float(), v.float(), on_gpu)) * case.is_real().cuda()
    assert_close(output.float(), dense, rtol=2e-2, atol=2e-2)


def test_the_kernel_is_the_cheapest_that_the_description_allows() -> None:
    q = torch.randn(2, 2, 4, 8)

    def chosen(mask: Mask, num_queries: int = 4) -> str:
        call = Call(q[:, :, :num_queries], q, q, mask)
        return next(kernel for kernel in KERNELS if kernel.can(call)).name

    right, left = (
        Mask(torch.tensor([row, [True] * 4]))
        for row in ([True, True, False, False], [False, True, True, True])
    )
    assert chosen(Mask()) == chosen(Mask().causal()) == chosen(right.causal()) == "plain"
    assert chosen(Mask().causal(), 1) == chosen(left.causal(), 1) == "single"
    assert chosen(Mask().within(4)) == "plain"
    packed = Mask(torch.tensor([[1, 1, 2, 2], [1, 1, 1, 0]]))
    for mask in (
        right,
        packed,
        packed.causal(),
        Mask().causal().within(2),
        left,
        left.causal(),
    ):
        assert chosen(mask) == "dense"
    assert chosen(Mask().causal(), 2) == "dense"


def test_the_scale_of_the_scores_can_be_given() -> None:
    case = Case(View([[1] * 5], True, None, None), 2, 1, 4, 5, False, 0)
    q, k, v, bias = case.tensors()
    assert_close(attend(q, k, v, case.mask(bias), scale=0.1), written_out(case, q, k, v, bias, 0.1))


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


def test_packed_texts_look_across_as_each_alone() -> None:
    layer = CrossAttention(12, 3)
    texts = [
        (torch.randn(1, asking, 12), torch.randn(1, seen, 12)) for asking, seen in ((3, 2), (1, 4), (2, 1))
    ]
    expected = torch.cat([layer(x, memory, Mask().across(Mask())) for x, memory in texts], 1)

    def numbered(lengths: list[int]) -> Mask:
        return Mask(
            torch.tensor([[number for number, length in enumerate(lengths, 1) for _ in range(length)]])
        )

    mask = numbered([2, 4, 1]).across(numbered([3, 1, 2]))
    x, memory = (torch.cat(parts, 1) for parts in zip(*texts, strict=True))
    assert_close(layer(x, memory, mask), expected, rtol=1e-5, atol=1e-5)


def test_boundaries_are_where_documents_and_rows_begin() -> None:
    documents = torch.tensor([[1, 1, 2, 0], [0, 1, 1, 1]])
    assert Mask(documents).boundaries.tolist() == [0, 2, 3, 4, 5, 8]
    assert Mask(documents).boundaries.dtype == torch.int32
