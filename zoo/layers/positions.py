"""Where a token stands: rotations of queries and keys, biases of scores, sinusoids added to embeddings."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class RopeParameters:
    """config.json's `rope_parameters`: the base of the rotations, and their stretch to long texts."""

    rope_theta: float = 10000.0
    """The base: the slowest pair of channels turns once in about 2π · rope_theta tokens."""
    rope_type: Literal["default", "linear", "llama3"] = "default"
    """How frequencies are scaled; llama3 leaves the fast ones alone and divides the slow ones."""
    factor: float | None = None
    """What frequencies are divided by."""
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_position_embeddings: int | None = None
    """The length of text before it was stretched, in tokens."""
    partial_rotary_factor: float | None = None
    """The share of a head's channels that turn, the first ones; None: all."""

    def __post_init__(self) -> None:
        needed = {
            "default": (),
            "linear": ("factor",),
            "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
        }
        if self.rope_type not in needed:
            raise SpecError(
                f"unknown `rope_type` of rope_parameters, got {self.rope_type!r}",
                at="rope_parameters.rope_type",
                hint=f"known: {', '.join(needed)}",
            )
        for name in needed[self.rope_type]:
            if getattr(self, name) is None:
                raise SpecError(
                    f"rope_parameters of type {self.rope_type} need `{name}`", at=f"rope_parameters.{name}"
                )
        share = self.partial_rotary_factor
        if share is not None and not 0 < share <= 1:
            raise SpecError(
                f"`partial_rotary_factor` must lie in (0, 1], got {share}",
                at="rope_parameters.partial_rotary_factor",
            )

    def frequencies(self, head_dim: int, device: torch.device) -> Tensor:
        """Radians per token of each pair of channels, float32 (head_dim / 2)."""
        exponents = torch.arange(0, head_dim, 2, device=device, dtype=torch.int64).float() / head_dim
        frequencies = 1.0 / self.rope_theta**exponents
        if self.rope_type == "linear":
            return frequencies / _given(self.factor)
        if self.rope_type == "llama3":
            return self._llama3(frequencies)
        return frequencies

    def _llama3(self, frequencies: Tensor) -> Tensor:
        low, high = _given(self.low_freq_factor), _given(self.high_freq_factor)
        turns = _given(self.original_max_position_embeddings) * frequencies / (2 * math.pi)
        # 0 where a pair turns too seldom to tell positions apart, 1 where it turns often.
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return kept * frequencies + (1 - kept) * frequencies / _given(self.factor)


def with_base(given: Any, base: float) -> Any:
    """What config.json says of rotations, with a base where it says none."""
    return {"rope_theta": base, **(given or {})} if given is None or isinstance(given, Mapping) else given


@dataclass(frozen=True, kw_only=True)
class RopeByLayerType:
    """config.json's `rope_parameters` where layers that slide turn otherwise than those that see all."""

    full_attention: RopeParameters
    sliding_attention: RopeParameters

    @classmethod
    def of_bases(cls, full: float, sliding: float) -> "RopeByLayerType":
        """By their bases alone."""
        return cls(
            full_attention=RopeParameters(rope_theta=full),
            sliding_attention=RopeParameters(rope_theta=sliding),
        )

    @staticmethod
    def spelled(given: Any, full: float, sliding: float) -> Any:
        """What config.json says, with the bases where it says none; flat, it speaks of those that see all."""
        bases = {"full_attention": full, "sliding_attention": sliding}
        said = {} if given is None else given
        if not isinstance(said, Mapping):
            return given  # which is then refused
        if not said.keys() <= bases.keys():
            said = {"full_attention": said}
        return {kind: with_base(said.get(kind), base) for kind, base in bases.items()}


def _given(value: float | None) -> float:
    assert value is not None  # __post_init__ saw to it
    return value


@dataclass(frozen=True)
class Rope:
    """The rotations of one batch's positions."""

    cos_BTK: Tensor
    sin_BTK: Tensor
    """Negative for the first half of the channels."""

    def turn(self, x_BHTK: Tensor) -> Tensor:
        """Queries or keys, each half of the channels being one coordinate of the rotated pairs.

        Channels behind those that turn stay.
        """
        cos, sin = self.cos_BTK[:, None].to(x_BHTK.dtype), self.sin_BTK[:, None].to(x_BHTK.dtype)
        if (width := cos.shape[-1]) < x_BHTK.shape[-1]:
            return torch.cat((self.turn(x_BHTK[..., :width]), x_BHTK[..., width:]), -1)
        return torch.addcmul(x_BHTK * cos, x_BHTK.roll(x_BHTK.shape[-1] // 2, -1), sin)


# Tables are computed where they are used and are no state of a module: nothing to save, to materialise, or
# to round when the module is cast to bfloat16.


@functools.cache
def _frequencies(parameters: RopeParameters, head_dim: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a table made while generating serves training, too
        return parameters.frequencies(head_dim, device)


@functools.cache
def _sinusoids(length: int, width: int, in_halves: bool, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        positions = torch.arange(length, device=device, dtype=torch.float32)[:, None]
        frequencies = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
        angles = positions * frequencies
        if in_halves:
            return torch.cat((angles.sin(), angles.cos()), -1)
        return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


def forget_tables() -> None:
    """Frees the tables, which are then computed anew where they are used."""
    _frequencies.cache_clear()
    _sinusoids.cache_clear()


class RotaryPositions(nn.Module):
    """Positions as rotations of pairs of channels.

    Su et al., 2021: https://arxiv.org/abs/2104.09864
    """

    def __init__(self, head_dim: int, rope_parameters: RopeParameters | None = None) -> None:
        super().__init__()
        self.rope_parameters = rope_parameters or RopeParameters()
        share = self.rope_parameters.partial_rotary_factor
        self.num_turned = head_dim if share is None else int(head_dim * share)
        if self.num_turned % 2:
            of = "" if share is None else f" · {share}"
            raise SpecError(
                f"`head_dim`{of} must be even, as rotations turn pairs of channels, got {self.num_turned}",
                at="head_dim",
            )

    @torch.no_grad()
    def forward(self, positions_BT: Tensor) -> Rope:
        """The rotations at these positions, in float32."""
        frequencies = _frequencies(self.rope_parameters, self.num_turned, positions_BT.device)
        angles_BTK = positions_BT[..., None].float() * frequencies
        cos_BTK, sin_BTK = angles_BTK.cos(), angles_BTK.sin()
        return Rope(torch.cat((cos_BTK, cos_BTK), -1), torch.cat((-sin_BTK, sin_BTK), -1))


class SinusoidalPositions(nn.Module):
    """Sines and cosines of geometrically spaced frequencies, taking turns over the channels.

    Vaswani et al., 2017, section 3.5: https://arxiv.org/abs/1706.03762

    Args:
        max_position_embeddings: Rows of the table.
        hidden_size: Width of the hidden states.
        in_halves: Whether all sines stand before all cosines, as in the authors' code.
    """

    def __init__(self, max_position_embeddings: int, hidden_size: int, *, in_halves: bool = False) -> None:
        super().__init__()
        self.table = (max_position_embeddings, hidden_size, in_halves)

    def forward(self, positions_BT: Tensor) -> Tensor:
        """The table's rows at these positions, float32 (batch, tokens, hidden_size)."""
        return _sinusoids(*self.table, positions_BT.device)[positions_BT]


class RelativePositions(nn.Module):
    """What is added to each head's scores, by how far apart two tokens stand.

    Near distances have a bucket each, far ones share some, the wider the farther; Raffel et al., 2019,
    section 2.1: https://arxiv.org/abs/1910.10683

    Args:
        num_heads: Heads of queries.
        num_buckets: Distances that are told apart.
        max_distance: From here on, distances are one.
        is_causal: Whether all buckets are for what came before; else half of them are for what comes after.
    """

    tensor_parallel: ClassVar[Mapping[str, str]] = {"bias": "colwise"}

    def __init__(
        self, num_heads: int, *, num_buckets: int = 32, max_distance: int = 128, is_causal: bool = False
    ) -> None:
        super().__init__()
        self.bias = nn.Embedding(num_buckets, num_heads)
        self.max_distance, self.is_causal = max_distance, is_causal

    def forward(self, num_queries: int, num_keys: int) -> Tensor:
        """The biases (1, heads, queries, keys) of queries that are the last of the keys."""
        places_S = torch.arange(num_keys, device=self.bias.weight.device)
        buckets_TS = self._buckets(places_S - places_S[num_keys - num_queries :, None])
        bias_TSH: Tensor = self.bias(buckets_TS)
        return bias_TSH.permute(2, 0, 1)[None]

    def _buckets(self, offsets_TS: Tensor) -> Tensor:
        """The bucket of each offset from the query to the key."""
        num_buckets = self.bias.num_embeddings
        distances, first = -offsets_TS.clamp(max=0), torch.zeros_like(offsets_TS)
        if not self.is_causal:
            num_buckets //= 2
            distances, first = offsets_TS.abs(), num_buckets * (offsets_TS > 0)
        num_near = num_buckets // 2
        growth = torch.log(distances.float() / num_near) / math.log(self.max_distance / num_near)
        far = num_near + (growth * (num_buckets - num_near)).clamp(min=0).long()
        return first + torch.where(distances < num_near, distances, far.clamp(max=num_buckets - 1))
