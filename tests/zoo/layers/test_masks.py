"""What attention may see, token by token."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoo.layers import Mask

CPU = torch.device("cpu")
rows = st.integers(1, 6).flatmap(
    lambda num_keys: st.lists(
        st.lists(st.booleans(), min_size=num_keys, max_size=num_keys), min_size=1, max_size=3
    )
)


def sees(real: list[bool], query: int, key: int, is_causal: bool) -> bool:
    """The definition: real tokens, not later ones; a token that is not real sees itself at least."""
    return (real[key] and (not is_causal or key <= query)) or key == query


@settings(deadline=None, max_examples=100, derandomize=True)
@given(padding=rows, is_causal=st.booleans(), data=st.data())
def test_a_token_sees_itself_and_the_real_ones_before_it(
    padding: list[list[bool]], is_causal: bool, data: st.DataObject
) -> None:
    num_keys = len(padding[0])
    num_queries = data.draw(st.integers(1, num_keys))
    mask = Mask(torch.tensor(padding), is_causal)
    seen = mask.dense(num_queries, num_keys, CPU)
    assert seen is not None
    first = num_keys - num_queries
    for row, real in enumerate(padding):
        expected = [
            [sees(real, query, key, is_causal) for key in range(num_keys)] for query in range(first, num_keys)
        ]
        if num_queries == 1:
            expected = [[sees(real, num_keys - 1, key, is_causal) for key in range(num_keys)]]
        assert seen[row, 0].tolist() == expected


def test_a_mask_that_hides_nothing_takes_no_memory() -> None:
    assert Mask().dense(3, 3, CPU) is None
    assert Mask(is_causal=True).dense(1, 5, CPU) is None


def test_without_padding_one_causal_mask_serves_every_row() -> None:
    seen = Mask(is_causal=True).dense(2, 4, CPU)
    assert seen is not None
    assert seen.tolist() == [[[[True, True, True, False], [True, True, True, True]]]]


@settings(deadline=None, max_examples=100, derandomize=True)
@given(padding=rows, data=st.data())
def test_positions_count_real_tokens(padding: list[list[bool]], data: st.DataObject) -> None:
    num_tokens = data.draw(st.integers(1, len(padding[0])))
    ids = torch.zeros(len(padding), num_tokens, dtype=torch.long)
    positions = Mask(torch.tensor(padding)).positions(ids, len(padding[0]) - num_tokens)
    assert positions.shape == ids.shape
    for row, real in enumerate(padding):
        for token in range(num_tokens):
            index = len(real) - num_tokens + token
            if real[index]:
                assert positions[row, token] == sum(real[:index])
            assert positions[row, token] >= 0


def test_positions_without_padding_go_on_from_the_past() -> None:
    ids = torch.zeros(3, 4, dtype=torch.long)
    assert Mask().positions(ids).tolist() == [[0, 1, 2, 3]]
    assert Mask().positions(ids, num_past=7).tolist() == [[7, 8, 9, 10]]


def test_the_hubs_attention_mask_says_which_tokens_are_real() -> None:
    given: Tensor = torch.tensor([[0, 1, 1]])
    mask = Mask.from_attention_mask(given)
    assert mask.padding_BS is not None
    assert mask.padding_BS.tolist() == [[False, True, True]]
    assert not mask.is_causal
    assert mask.causal() == Mask(mask.padding_BS, True)
    assert Mask.from_attention_mask(None) == Mask()
