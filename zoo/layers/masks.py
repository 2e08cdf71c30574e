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
    is_across: bool = False
    """Whether the tokens that are seen are another text's than those that look."""
    bias_BHTS: Tensor | None = None
    """Added to the scores, broadcast over the batch and the heads."""

    @classmethod
    def from_attention_mask(cls, attention_mask: Tensor | None) -> "Mask":
        """From the Hub's `attention_mask` (batch, tokens), 1 where a token is real."""
        return cls(None if attention_mask is None else attention_mask.bool())

    def causal(self) -> "Mask":
        """The same tokens, each seeing only itself and what came before."""
        return replace(self, is_causal=True)

    def across(self) -> "Mask":
        """The same tokens, seen by those of another text."""
        return replace(self, is_across=True)

    def with_bias(self, bias_BHTS: Tensor) -> "Mask":
        """The same view, with something added to the scores."""
        return replace(self, bias_BHTS=bias_BHTS)

    def positions(self, input_ids: Tensor, num_past: int = 0) -> Tensor:
        """Positions (batch or 1, tokens) of tokens after `num_past` others; padding is not counted."""
        num_tokens = input_ids.shape[1]
        if self.padding_BS is None:
            return torch.arange(num_past, num_past + num_tokens, device=input_ids.device)[None]
        counted = self.padding_BS.cumsum(-1) - 1
        return counted.clamp(min=0)[:, -num_tokens:]

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """What is added to scores (batch or 1, heads or 1, queries, keys); None where it is nothing.

        Boolean, true where seen, or, where there is a bias, the bias with minus infinity where not seen.
        The queries are the last of the keys, or another text's.
        """
        seen = self._seen(num_queries, num_keys, device)
        if self.bias_BHTS is None or seen is None:
            return seen if self.bias_BHTS is None else self.bias_BHTS
        return self.bias_BHTS.masked_fill(~seen, -torch.inf)

    def _seen(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        seen: Tensor | None = None
        if self.is_causal and num_queries > 1:
            everything = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
            seen = everything.tril(num_keys - num_queries)[None, None]
        if self.padding_BS is not None:
            real = self.padding_BS[:, None, None, :]
            if self.is_across:  # softmax over nothing is NaN: an empty text is seen as it is
                return real | ~real.any(-1, keepdim=True)
            seen = real if seen is None else seen & real
            # A padded token would see nothing: it sees itself.
            itself = torch.eye(num_queries, num_keys, dtype=torch.bool, device=device)
            seen = seen | itself.roll(num_keys - num_queries, -1)
        return seen
