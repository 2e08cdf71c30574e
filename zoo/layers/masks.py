"""What attention may see, as a description; a kernel that needs a tensor asks for one."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mask:
    """What each token may see: all real tokens, or those up to itself.

    The batch says which tokens are real, the family says in which direction its layers look.
    """

    padding_BS: Tensor | None = None
    """Boolean, true where a token is real; None where every token is."""
    is_causal: bool = False
    """Whether a token sees only itself and what came before."""

    @classmethod
    def from_attention_mask(cls, attention_mask: Tensor | None) -> "Mask":
        """From the Hub's `attention_mask` (batch, tokens), 1 where a token is real."""
        return cls(None if attention_mask is None else attention_mask.bool())

    def causal(self) -> "Mask":
        """The same tokens, each seeing only itself and what came before."""
        return replace(self, is_causal=True)

    def positions(self, input_ids: Tensor, num_past: int = 0) -> Tensor:
        """Positions (batch or 1, tokens) of tokens after `num_past` others; padding is not counted."""
        num_tokens = input_ids.shape[1]
        if self.padding_BS is None:
            return torch.arange(num_past, num_past + num_tokens, device=input_ids.device)[None]
        counted = self.padding_BS.cumsum(-1) - 1
        return counted.clamp(min=0)[:, -num_tokens:]

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """Boolean (batch or 1, 1, queries, keys), true where seen; None where everything is.

        The queries are the last of the keys.
        """
        seen: Tensor | None = None
        if self.is_causal and num_queries > 1:
            everything = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
            seen = everything.tril(num_keys - num_queries)[None, None]
        if self.padding_BS is not None:
            real = self.padding_BS[:, None, None, :]
            seen = real if seen is None else seen & real
            # A padded token would see nothing, and softmax over nothing is NaN: it sees itself.
            itself = torch.eye(num_queries, num_keys, dtype=torch.bool, device=device)
            seen = seen | itself.roll(num_keys - num_queries, -1)
        return seen
