"""What is remembered, and that rows may be dropped, moved, replaced and cut back."""

import pytest
import torch

from zoo.generation import Cache, LayerCache


def test_a_cache_keeps_every_token_in_order() -> None:
    cache = LayerCache(5)
    keys, values = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    for start, end in ((0, 2), (2, 3), (3, 5)):
        so_far = cache.update(keys[:, :, start:end], values[:, :, start:end])
        assert torch.equal(so_far[0], keys[:, :, :end])
        assert torch.equal(so_far[1], values[:, :, :end])
        assert cache.length == end


def test_a_cache_takes_the_dtype_of_its_keys() -> None:
    keys = torch.ones(1, 1, 2, 4, dtype=torch.bfloat16)
    assert LayerCache(2).update(keys, keys)[0].dtype == torch.bfloat16


def test_a_full_cache_says_so() -> None:
    cache, keys = LayerCache(2), torch.ones(1, 1, 3, 4)
    with pytest.raises(AssertionError, match=r"^a cache of 2 tokens was asked to hold 3$"):
        cache.update(keys, keys)


def test_each_layer_has_a_part_of_its_own() -> None:
    cache, keys = Cache(4), torch.ones(1, 1, 3, 4)
    assert cache.length == 0
    cache.layer(0).update(keys, keys)
    cache.layer(1).update(keys[:, :, :2], keys[:, :, :2])
    assert cache.length == 2
    assert cache.layer(0).length == 3
