"""Kernels of attention: what each can do, and how it is called. The first that can is taken.

A kernel that makes something of the mask makes it once for all layers, in `Mask.once`.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from zoo.layers.masks import Mask

HAS_STREAMS = "window_size" in inspect.signature(varlen_attn).parameters
"""Whether torch's kernel for streams takes windows and a scale; the first that were released do not."""

LONG = 1024
"""Tokens of a row from which blocks that no one sees are worth finding."""


@dataclass(frozen=True)
class Call:
    """Queries, keys and values of one attention, and what may be seen."""

    q_BHTK: Tensor
    k_BGSK: Tensor
    v_BGSK: Tensor
    mask: Mask
    scale: float | None = None
    """Factor of the scores; None: head_dim ** -0.5."""
    dropout: float = 0.0
    """Probability of dropping a weight."""

    @property
    def num_queries(self) -> int:
        """Tokens that look."""
        return self.q_BHTK.shape[-2]

    @property
    def num_keys(self) -> int:
        """Tokens that are seen."""
        return self.k_BGSK.shape[-2]

    @property
    def is_grouped(self) -> bool:
        """Whether several heads of queries share keys and values."""
        return self.q_BHTK.shape[1] != self.k_BGSK.shape[1]

    def with_equal_heads(self) -> "Call":
        """Keys and values repeated for each of their heads of queries."""
        repeats = self.q_BHTK.shape[1] // self.k_BGSK.shape[1]
        if repeats == 1:
            return self
        k_BHSK, v_BHSK = (part.repeat_interleave(repeats, 1) for part in (self.k_BGSK, self.v_BGSK))
        return Call(self.q_BHTK, k_BHSK, v_BHSK, self.mask, self.scale, self.dropout)


@dataclass(frozen=True)
class Kernel:
    """One way to attend."""

    name: str
    can: Callable[[Call], bool]
    """Whether it gives the right answer, and gradients, for this call on this device."""
    run: Callable[[Call], Tensor]
    """Queries' view of the values, (batch, heads, tokens, head_dim)."""


def _scaled_dot_product(call: Call, dense: Tensor | None, *, is_causal: bool) -> Tensor:
    if not call.q_BHTK.is_cuda:  # the CPU's fused kernel takes equal heads only
        call = call.with_equal_heads()
    return F.scaled_dot_product_attention(
        call.q_BHTK,
        call.k_BGSK,
        call.v_BGSK,
        attn_mask=dense.to(call.q_BHTK.dtype) if dense is not None and dense.is_floating_point() else dense,
        dropout_p=call.dropout,
        is_causal=is_causal,
        scale=call.scale,
        enable_gqa=call.is_grouped,
    )


# One token that looks, as while decoding. Heads that share keys and values then look as tokens of one head,
# so that what is remembered is read once and never repeated.


def _single(call: Call) -> Tensor:
    q_BHTK, k_BGSK, mask = call.q_BHTK, call.k_BGSK, call.mask
    dense = None if mask.shows_all(call.num_keys) else mask.dense(1, call.num_keys, q_BHTK.device)
    if dense is not None and dense.is_floating_point():
        dense = dense.to(q_BHTK.dtype)
    if not call.is_grouped:
        return F.scaled_dot_product_attention(
            q_BHTK, k_BGSK, call.v_BGSK, attn_mask=dense, dropout_p=call.dropout, scale=call.scale
        )
    if dense is not None and dense.shape[1] > 1:
        dense = dense.reshape(len(dense), k_BGSK.shape[1], -1, call.num_keys)
    q_BGTK = q_BHTK.reshape(len(q_BHTK), k_BGSK.shape[1], -1, q_BHTK.shape[-1])
    seen_BGTK = F.scaled_dot_product_attention(
        q_BGTK, k_BGSK, call.v_BGSK, attn_mask=dense, dropout_p=call.dropout, scale=call.scale
    )
    return seen_BGTK.reshape(q_BHTK.shape)


# Without a mask tensor, by the flag alone.


def _is_plain(call: Call) -> bool:
    mask = call.mask
    if mask.bias_BHTS is not None or mask.prefix_BS is not None or mask.is_short(call.num_keys):
        return False
    if not mask.is_causal:
        return mask.documents_BS is None
    # Padding at the end is seen by no real token; a single token sees all that is there.
    is_whole = call.num_queries == call.num_keys and mask.is_right_padded
    return is_whole or (call.num_queries == 1 and mask.documents_BS is None)


def _plain(call: Call) -> Tensor:
    # A branch, not `and`: of a length that a compiled graph leaves open, that would be no bool.
    return _scaled_dot_product(call, None, is_causal=call.mask.is_causal if call.num_queries > 1 else False)


# Rows as one stream of documents, each attending in itself.


def _is_stream(call: Call) -> bool:
    mask, q = call.mask, call.q_BHTK
    return (
        HAS_STREAMS
        and q.is_cuda
        and q.dtype in (torch.bfloat16, torch.float16)
        and q.shape[-1] <= 256
        and q.shape[-1] % 8 == 0
        and call.num_queries == call.num_keys
        and mask.documents_BS is not None
        and mask.prefix_BS is None
        and mask.bias_BHTS is None
        and not mask.is_across
        and not call.dropout
    )


def _stream(call: Call) -> Tensor:
    call = call.with_equal_heads()
    starts = call.mask.boundaries
    reach = -1 if call.mask.reach is None else call.mask.reach - 1
    q, k, v = (part.transpose(1, 2).flatten(0, 1) for part in (call.q_BHTK, call.k_BGSK, call.v_BGSK))
    longest, window = call.num_keys, (reach, 0 if call.mask.is_causal else reach)
    seen = varlen_attn(q, k, v, starts, starts, longest, longest, scale=call.scale, window_size=window)
    assert isinstance(seen, Tensor)  # with `return_aux` there would be more
    return seen.view(call.q_BHTK.shape[0], call.num_keys, *seen.shape[1:]).transpose(1, 2)


# Blocks of the description, those that no one sees left out.


def _is_block_wise(call: Call) -> bool:
    is_long = min(call.num_queries, call.num_keys) >= LONG
    return call.q_BHTK.is_cuda and is_long and call.mask.bias_BHTS is None and not call.dropout


@functools.cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def sees(mask: Mask, num_past: int) -> Callable[..., Tensor]:
    """The description as a rule for one query and one key, by their numbers in a row."""
    asking = mask.asking_BT if mask.is_across else mask.documents_BS

    def rule(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        place = t if mask.is_across else t + num_past
        seen = s >= 0
        if mask.is_causal:
            seen = place >= s
        if mask.prefix_BS is not None:
            seen = seen | mask.prefix_BS[b, s]
        if mask.reach is not None:
            seen = seen & ((place - s).abs() < mask.reach)
        if mask.documents_BS is not None:
            own = 1 if asking is None else asking[b, place]
            seen = seen & (mask.documents_BS[b, s] == own)
        return seen

    return rule


def block_wise(call: Call, attention: Callable[..., Any]) -> Tensor:
    """Attention by `flex_attention`, compiled or not."""
    from torch.nn.attention.flex_attention import create_block_mask

    rule = sees(call.mask.of_newest(call.num_keys), call.num_keys - call.num_queries)
    size = call.q_BHTK.shape[0], None, call.num_queries, call.num_keys
    blocks = call.mask.once(
        f"blocks {size}", lambda: create_block_mask(rule, *size, device=call.q_BHTK.device.type)
    )
    found: Tensor = attention(
        call.q_BHTK, call.k_BGSK, call.v_BGSK, block_mask=blocks, scale=call.scale, enable_gqa=call.is_grouped
    )
    return found


# A mask tensor, which says everything.


def _dense(call: Call) -> Tensor:
    dense = call.mask.dense(call.num_queries, call.num_keys, call.q_BHTK.device)
    return _scaled_dot_product(call, dense, is_causal=False)


KERNELS = (
    Kernel("single", lambda call: call.num_queries == 1, _single),
    Kernel("plain", _is_plain, _plain),
    Kernel("stream", _is_stream, _stream),
    Kernel("blocks", _is_block_wise, lambda call: block_wise(call, _compiled_flex())),
    Kernel("dense", lambda call: True, _dense),
)
"""From the cheapest to the one that can always."""


# What is weighed, for people to look at. Kernels keep no weights: they are computed beside them.


class Weights(NamedTuple):
    """What one attention weighs."""

    values_BHTS: Tensor
    """(batch, heads, queries, keys); over the keys they sum to one."""
    is_across: bool
    """Whether the keys are another text's."""


_WATCHERS: list[list[Weights]] = []


@contextmanager
def attention_weights() -> Iterator[list[Weights]]:
    """Collects what every attention that is computed meanwhile weighs, in order; for few, short rows."""
    found: list[Weights] = []
    _WATCHERS.append(found)
    try:
        yield found
    finally:
        _WATCHERS.pop()


def weights_of(call: Call) -> Tensor:
    """The softmax of the scores, in float32, (batch, heads, queries, keys)."""
    call = call.with_equal_heads()
    scale = call.q_BHTK.shape[-1] ** -0.5 if call.scale is None else call.scale
    scores_BHTS = scale * call.q_BHTK.float() @ call.k_BGSK.float().mT
    dense = call.mask.dense(call.num_queries, call.num_keys, scores_BHTS.device)
    if dense is not None and dense.is_floating_point():
        scores_BHTS = scores_BHTS + dense
    elif dense is not None:
        scores_BHTS = scores_BHTS.masked_fill(~dense, -torch.inf)
    return scores_BHTS.softmax(-1)


def attend(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    mask: Mask,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention of queries over keys, by the cheapest kernel that the mask allows.

    Args:
        q_BHTK: Queries, the last T of the S tokens.
        k_BGSK: Keys; each serves H/G heads of queries.
        v_BGSK: Values.
        mask: What each query may see.
        scale: Factor of the scores; by default head_dim ** -0.5.
        dropout: Probability of dropping a weight.
    """
    if (
        not _WATCHERS
        and q_BHTK.shape[-2] == 1
        and q_BHTK.shape[1] == k_BGSK.shape[1]
        and mask.shows_all(k_BGSK.shape[-2])
    ):
        # What decoding asks for layer by layer, token by token.
        return F.scaled_dot_product_attention(q_BHTK, k_BGSK, v_BGSK, dropout_p=dropout, scale=scale)
    call = Call(q_BHTK, k_BGSK, v_BGSK, mask, scale, dropout)
    for found in _WATCHERS:
        found.append(Weights(weights_of(call), mask.is_across))
    return next(kernel for kernel in KERNELS if kernel.can(call)).run(call)
