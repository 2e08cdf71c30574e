"""Keys and values of the tokens that a decoder has seen, in memory taken once."""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor


class LayerCache:
    """One layer's keys and values, (batch, key/value heads, max_tokens, head_dim) each."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._memory: tuple[Tensor, Tensor] | None = None

    def update(self, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Adds the keys and values of new tokens; returns those of all tokens."""
        if self._keys is None or self._values is None:
            batch, heads, _, width = k_BGTK.shape
            self._keys = k_BGTK.new_empty(batch, heads, self.max_tokens, width)
            self._values = torch.empty_like(self._keys)
        end = self.length + k_BGTK.shape[2]
        assert end <= self.max_tokens, f"a cache of {self.max_tokens} tokens was asked to hold {end}"
        self._keys[:, :, self.length : end] = k_BGTK
        self._values[:, :, self.length : end] = v_BGTK
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def memory(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Keys and values of a text that does not change, made the first time."""
        if self._memory is None:
            self._memory = make()
        return self._memory


class Cache:
    """What a decoder remembers, layer by layer; a layer's part is made when it is first asked for."""

    def __init__(self, max_tokens: int) -> None:
        self._layers: defaultdict[int, LayerCache] = defaultdict(lambda: LayerCache(max_tokens))

    @property
    def length(self) -> int:
        """Tokens that every layer has seen."""
        return min((layer.length for layer in self._layers.values()), default=0)

    def layer(self, index: int) -> LayerCache:
        """One layer's part."""
        return self._layers[index]
