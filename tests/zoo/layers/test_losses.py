"""The loss that owns the projection, beside cross entropy over whole logits."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import zoo
from zoo.layers import IGNORED, linear_cross_entropy, losses

VOCAB, WIDTH, ROWS = 37, 8, 21


def inputs(dtype: torch.dtype, *, bias: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    hidden = torch.randn(ROWS, WIDTH, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCAB, WIDTH, dtype=dtype, requires_grad=True)
    labels = torch.randint(VOCAB, (ROWS,))
    return hidden, weight, labels, torch.randn(VOCAB, dtype=dtype, requires_grad=True) if bias else None


def whole(hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias), labels, reduction="sum")


def gradients(loss: Tensor, *tensors: Tensor | None) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [tensor for tensor in tensors if tensor is not None]))


def take_at_once(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "chunk_tokens", lambda vocab_size: tokens)


class Shapes(TorchDispatchMode):
    """Notes what each operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor):
            self.made.append((func.overloadpacket.__name__, tuple(output.shape)))
        return output

    def num_products(self) -> int:
        return sum(name in ("mm", "addmm", "linear") for name, _ in self.made)

    def most_rows_of_logits(self) -> int:
        return max(shape[0] for name, shape in self.made if shape[1:] == (VOCAB,) and name != "t")


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_finite_differences(bias: bool) -> None:
    hidden, weight, labels, offset = inputs(torch.float64, bias=bias)
    for softcap in (None, 2.0):
        assert torch.autograd.gradcheck(linear_cross_entropy, (hidden, weight, labels, offset, softcap))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows_of_chunk", [1, 4, 7, 20, 21, 100])
def test_value_and_every_gradient_equal_cross_entropy_of_whole_logits(
    rows_of_chunk: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_at_once(rows_of_chunk, monkeypatch)
    hidden, weight, labels, offset = inputs(torch.float32, bias=bias)
    loss, expected = (f(hidden, weight, labels, offset) for f in (linear_cross_entropy, whole))
    assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    ours, theirs = (gradients(value * 0.7, hidden, weight, offset) for value in (loss, expected))
    for mine, reference in zip(ours, theirs, strict=True):
        assert_close(mine, reference, rtol=1e-5, atol=1e-5)


def test_the_larger_the_vocabulary_the_fewer_tokens_are_taken_at_once_but_never_less_than_pays() -> None:
    assert [losses.chunk_tokens(size) for size in (2**10, 2**12, 2**15, 2**17)] == [1024, 256, 256, 256]


def test_tokens_may_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    take_at_once(1, monkeypatch)
    given = inputs(torch.float64)
    assert_close(linear_cross_entropy(*given), whole(*given))


def test_logits_are_never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    take_at_once(4, monkeypatch)
    given = inputs(torch.float32)
    with Shapes() as shapes:
        linear_cross_entropy(*given).backward()
    assert shapes.most_rows_of_logits() == 4


def test_without_gradients_the_loss_is_the_logits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    take_at_once(7, monkeypatch)
    given = inputs(torch.float32)
    for silent in (torch.no_grad(), torch.inference_mode()):
        with silent, Shapes() as shapes:
            loss = linear_cross_entropy(*given)
        assert shapes.num_products() == 3
        assert_close(loss, whole(*given).detach())


def test_a_frozen_weight_gets_no_gradient() -> None:
    hidden, weight, labels, bias = inputs(torch.float64)
    linear_cross_entropy(
        hidden, weight.detach(), labels, bias.detach() if bias is not None else None
    ).backward()
    (expected,) = gradients(whole(hidden, weight, labels, bias), hidden)
    assert_close(hidden.grad, expected)


def test_under_bf16_autocast_the_loss_is_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    take_at_once(64, monkeypatch)
    hidden = torch.randn(4096, 32, requires_grad=True)
    weight = (torch.randn(100, 32) * 0.1).requires_grad_()
    labels = torch.randint(100, (4096,))
    expected = whole(hidden, weight, labels, None)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, labels, None)
    assert loss.dtype == torch.float32
    assert_close(loss, expected, rtol=1e-4, atol=0)
    for mine, reference in zip(
        gradients(loss, hidden, weight), gradients(expected, hidden, weight), strict=True
    ):
        assert mine.dtype == torch.float32
        assert (mine - reference).norm() < 0.01 * reference.norm()


def test_in_bfloat16_gradients_have_the_dtype_of_what_they_are_of() -> None:
    hidden, weight, labels, bias = inputs(torch.bfloat16)
    loss = linear_cross_entropy(hidden, weight, labels, bias)
    assert loss.dtype == torch.float32
    assert {gradient.dtype for gradient in gradients(loss, hidden, weight, bias)} == {torch.bfloat16}


@pytest.fixture
def head() -> nn.Module:
    spec = zoo.decoders.TransformerLM(**zoo.decoders.TransformerLM.tiny)
    head = zoo.heads.CausalLM().build(spec)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    return head  # type: ignore[no-any-return]


def test_tokens_without_a_label_are_left_out_before_the_projection(
    head: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = torch.randn(2, 6, 32)
    labels = torch.randint(0, 96, (2, 6))
    labels[0, 2:] = IGNORED
    labels[1, 5] = IGNORED
    seen: list[int] = []
    real = torch.nn.functional.linear
    monkeypatch.setattr(F, "linear", lambda x, *rest: (seen.append(len(x)), real(x, *rest))[1])
    loss = head.loss(hidden, {"labels": labels})
    assert seen == [1 + 4]
    assert loss.num_labels == 5
    monkeypatch.undo()
    expected = F.cross_entropy(head(hidden, {})[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert_close(loss.mean, expected)


def test_a_batch_without_labels_costs_nothing_and_teaches_nothing(head: Any) -> None:
    hidden = torch.randn(2, 6, 32, requires_grad=True)
    loss = head.loss(hidden, {"labels": torch.full((2, 6), IGNORED)})
    assert loss.num_labels == 0
    loss.mean.backward()
    assert loss.mean.item() == 0
    for tensor in (hidden, *head.parameters()):
        assert tensor.grad is not None
        assert not tensor.grad.any()


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_smoothed_labels_are_those_of_torch(softcap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    take_at_once(4, monkeypatch)
    hidden, weight, labels, bias = inputs(torch.float64)
    logits = F.linear(hidden, weight, bias)
    logits = logits if softcap is None else losses.capped(logits, softcap)
    expected = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=0.1)
    found = linear_cross_entropy(hidden, weight, labels, bias, softcap, 0.1)
    assert_close(found, expected)
    assert_close(gradients(found, hidden, weight, bias), gradients(expected, hidden, weight, bias))
