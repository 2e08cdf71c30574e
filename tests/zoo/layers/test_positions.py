"""Where a token stands: beside written-out formulas, and transformers."""

import math
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention, T5Config

from zoo.errors import SpecError
from zoo.layers import RelativePositions, RopeParameters, RotaryPositions, SinusoidalPositions

CPU = torch.device("cpu")
KINDS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 10000.0},
    "linear": {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}


def written_out(width: int, rope: dict[str, Any]) -> list[float]:
    """Radians per token, as the papers and Meta's own code say."""
    frequencies = [1 / rope["rope_theta"] ** (2 * pair / width) for pair in range(width // 2)]
    if rope["rope_type"] == "linear":
        return [frequency / rope["factor"] for frequency in frequencies]
    if rope["rope_type"] == "default":
        return frequencies
    scaled, length = [], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    for frequency in frequencies:
        wavelength = 2 * math.pi / frequency
        if wavelength < length / high:
            scaled.append(frequency)
        elif wavelength > length / low:
            scaled.append(frequency / rope["factor"])
        else:
            smooth = (length / wavelength - low) / (high - low)
            scaled.append((1 - smooth) * frequency / rope["factor"] + smooth * frequency)
    return scaled


@pytest.mark.parametrize("rope", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("width", [2, 16, 64, 128])
def test_frequencies_follow_the_formula_and_transformers(width: int, rope: dict[str, Any]) -> None:
    ours = RopeParameters(**rope).frequencies(width, CPU)
    assert_close(ours, torch.tensor(written_out(width, rope)), rtol=1e-6, atol=0)
    config = transformers.LlamaConfig(
        hidden_size=width, num_attention_heads=1, head_dim=width, rope_parameters=dict(rope)
    )
    if rope["rope_type"] == "default":
        theirs, factor = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    else:
        theirs, factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, CPU)
    assert factor == 1
    assert_close(ours, theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rope", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotations_equal_transformers(rope: dict[str, Any], dtype: torch.dtype) -> None:
    config = transformers.LlamaConfig(
        hidden_size=48, num_attention_heads=3, rope_parameters=dict(rope), max_position_embeddings=4096
    )
    positions = torch.tensor([[0, 1, 2, 3, 1000, 4095], [5, 6, 7, 8, 9, 10]])
    q, k = torch.randn(2, 3, 6, 16, dtype=dtype), torch.randn(2, 3, 6, 16, dtype=dtype)
    cos, sin = LlamaRotaryEmbedding(config)(q, positions)
    expected = apply_rotary_pos_emb(q, k, cos, sin)
    turned = RotaryPositions(16, RopeParameters(**rope))(positions)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for ours, theirs in zip((turned.turn(q), turned.turn(k)), expected, strict=True):
        assert ours.dtype == dtype
        assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    width=st.sampled_from([2, 8, 32]),
    one=st.integers(0, 200),
    other=st.integers(0, 200),
    shift=st.integers(0, 300),
    seed=st.integers(0, 99),
)
def test_scores_depend_on_the_distance_alone(
    kind: str, width: int, one: int, other: int, shift: int, seed: int
) -> None:
    rotary = RotaryPositions(width, RopeParameters(**KINDS[kind]))
    q, k = torch.randn(2, 1, 1, 1, width, generator=torch.Generator().manual_seed(seed)).unbind()

    def score(query: int, key: int) -> torch.Tensor:
        turned = (rotary(torch.tensor([[place]])).turn(x) for place, x in ((query, q), (key, k)))
        return torch.stack(tuple(turned)).prod(0).sum()

    assert_close(score(one, other), score(one + shift, other + shift), rtol=1e-3, atol=2e-3)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(width=st.sampled_from([2, 8, 32]), position=st.integers(0, 5000))
def test_a_rotation_keeps_lengths_and_position_zero_turns_nothing(width: int, position: int) -> None:
    rotary, x = RotaryPositions(width), torch.randn(1, 2, 1, width)
    assert_close(rotary(torch.tensor([[position]])).turn(x).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotary(torch.tensor([[0]])).turn(x), x)


@pytest.mark.parametrize("module", [RotaryPositions(8), SinusoidalPositions(20, 8)])
def test_tables_are_no_state_and_stay_float32_in_a_bfloat16_model(module: torch.nn.Module) -> None:
    positions = torch.arange(20)[None]
    before = module(positions)
    after = module.to(torch.bfloat16)(positions)
    assert not module.state_dict()
    assert not list(module.buffers())
    tables = (
        [(before, after)]
        if isinstance(before, torch.Tensor)
        else [(before.cos_BTK, after.cos_BTK), (before.sin_BTK, after.sin_BTK)]
    )
    for one, other in tables:
        assert other.dtype == torch.float32
        assert torch.equal(one, other)


def test_a_table_made_while_generating_serves_training() -> None:
    weight, sinusoids = torch.ones(12, requires_grad=True), SinusoidalPositions(9, 12)
    rotary = RotaryPositions(12, RopeParameters(rope_theta=77.0))
    with torch.inference_mode():
        rotary(torch.arange(3)[None])
        sinusoids(torch.arange(3)[None])
    turned = rotary(torch.arange(3)[None]).turn(weight.expand(1, 1, 3, 12))
    (turned.sum() + (weight * sinusoids(torch.arange(3)[None])).sum()).backward()
    assert weight.grad is not None


@settings(deadline=None, max_examples=60, derandomize=True)
@given(position=st.integers(0, 299), channel=st.integers(0, 23))
def test_sinusoids_follow_the_paper(position: int, channel: int) -> None:
    table = SinusoidalPositions(300, 24)(torch.tensor([[position]]))
    angle = position / 10000 ** (2 * (channel // 2) / 24)
    expected = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
    assert table.shape == (1, 1, 24)
    assert abs(table[0, 0, channel].item() - expected) < 3e-5


@pytest.mark.parametrize("name", sorted(set(KINDS["llama3"]) - {"rope_type", "rope_theta"}))
def test_llama3_scaling_names_what_it_lacks(name: str) -> None:
    given = {key: value for key, value in KINDS["llama3"].items() if key != name}
    with pytest.raises(SpecError) as caught:
        RopeParameters(**given)
    assert caught.value.message == f"rope_parameters of type llama3 need `{name}`"
    assert caught.value.at == f"rope_parameters.{name}"


def test_an_unknown_rope_type_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        RopeParameters(rope_type="yarn")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "unknown `rope_type` of rope_parameters, got 'yarn'\n"
        "  at    rope_parameters.rope_type\n"
        "  known: default, linear, llama3"
    )


def test_an_odd_head_dim_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        RotaryPositions(5)
    assert str(caught.value) == (
        "`head_dim` must be even, as rotations turn pairs of channels, got 5\n  at    head_dim"
    )


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    num_keys=st.integers(1, 300),
    num_queries=st.integers(1, 300),
    num_buckets=st.sampled_from([4, 8, 32]),
    max_distance=st.sampled_from([17, 128]),
    is_causal=st.booleans(),
)
def test_biases_by_distance_equal_transformers(
    num_keys: int, num_queries: int, num_buckets: int, max_distance: int, is_causal: bool
) -> None:
    num_queries = min(num_queries, num_keys)
    config = T5Config(
        num_heads=3,
        relative_attention_num_buckets=num_buckets,
        relative_attention_max_distance=max_distance,
        is_decoder=is_causal,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = RelativePositions(3, num_buckets=num_buckets, max_distance=max_distance, is_causal=is_causal)
    with torch.no_grad():
        theirs.relative_attention_bias.weight.normal_()
        ours.bias.weight.copy_(theirs.relative_attention_bias.weight)
    expected = theirs.compute_bias(num_queries, num_keys, past_seen_tokens=num_keys - num_queries)
    assert torch.equal(ours(num_queries, num_keys), expected)


def test_channels_behind_those_that_turn_stay() -> None:
    x = torch.randn(2, 3, 7, 12)
    positions = torch.arange(7)[None]
    found = RotaryPositions(12, RopeParameters(partial_rotary_factor=0.5))(positions).turn(x)
    assert torch.equal(found[..., 6:], x[..., 6:])
    assert_close(found[..., :6], RotaryPositions(6)(positions).turn(x[..., :6]))


@pytest.mark.parametrize("share", [0.0, 1.5, -0.5])
def test_a_share_of_channels_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(SpecError) as caught:
        RopeParameters(partial_rotary_factor=share)
    assert caught.value.message == f"`partial_rotary_factor` must lie in (0, 1], got {share}"


def test_a_share_of_channels_that_makes_no_pairs_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        RotaryPositions(12, RopeParameters(partial_rotary_factor=0.25))
    message = "`head_dim` · 0.25 must be even, as rotations turn pairs of channels, got 3"
    assert caught.value.message == message
