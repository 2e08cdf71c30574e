"""What attention may see, as a description; a kernel that needs a tensor asks for one."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Mask:
    """What each token may see: the tokens of its own document, all of them or those near by or before it.

    The batch says which tokens belong together, the family says in which direction and how far its layers
    look. Rows of several documents are packed rows: a document never sees another, and its positions start
    at zero.
    """

    documents_BS: Tensor | None = None
    """The number of each token's document in its row, rising from one; zero is padding. None where every row
    is one document; boolean where none has several."""
    is_causal: bool = False
    """Whether a token sees only itself and what came before."""
    reach: int | None = None
    """A token sees what is fewer than so many tokens away; None: all."""
    prefix_BS: Tensor | None = None
    """Boolean, true for tokens that those before them see, too."""
    bias_BHTS: Tensor | None = None
    """Added to the scores, broadcast over the batch and the heads."""
    is_across: bool = False
    """Whether the tokens that are seen are another text's than those that look."""
    asking_BT: Tensor | None = None
    """Documents of the tokens that look, where they are another text's."""
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _found: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What is known of the documents, whatever is seen of them; views of the same tokens share it."""

    @classmethod
    def from_attention_mask(cls, attention_mask: Tensor | None) -> "Mask":
        """From the Hub's `attention_mask` (batch, tokens): 1 where a token is real; packed, its document."""
        if attention_mask is not None and torch.compiler.is_exporting():
            return cls(attention_mask.bool())  # a graph must not depend on the example's values
        if attention_mask is not None and attention_mask.device.type == "cpu" and attention_mask.numel():
            if attention_mask.min() > 0 and attention_mask.max() <= 1:
                return cls()
            if attention_mask.max() <= 1:  # elsewhere, to ask would be to wait
                attention_mask = attention_mask.bool()
        return cls(attention_mask)

    def causal(self) -> "Mask":
        """The same tokens, each seeing only itself and what came before."""
        return replace(self, is_causal=True)

    def within(self, reach: int | None) -> "Mask":
        """The same tokens, each seeing what is fewer than `reach` tokens away.

        Beltagy et al., 2020: https://arxiv.org/abs/2004.05150
        """
        return replace(self, reach=reach)

    def with_prefix(self, prefix_BS: Tensor) -> "Mask":
        """The same view, with tokens that those before them see, too.

        Raffel et al., 2019, section 3.2.1: https://arxiv.org/abs/1910.10683
        """
        return replace(self, prefix_BS=prefix_BS)

    def with_bias(self, bias_BHTS: Tensor) -> "Mask":
        """The same view, with something added to the scores."""
        return replace(self, bias_BHTS=bias_BHTS)

    def biased(self, bias_BHTS: Tensor) -> "Mask":
        """The same view with something added to the scores, folded into one tensor for all layers."""
        num_queries, num_keys = bias_BHTS.shape[-2:]
        return Mask(bias_BHTS=self.with_bias(bias_BHTS).dense(num_queries, num_keys, bias_BHTS.device))

    def across(self, asking: "Mask") -> "Mask":
        """The same tokens, seen by those of another text: each document by its namesake."""
        return Mask(self.documents_BS, is_across=True, asking_BT=asking.documents_BS)

    def positions(self, input_ids: Tensor, num_past: int = 0) -> Tensor:
        """Positions (batch or 1, tokens) of tokens after `num_past` others, each in its own document."""
        num_tokens = input_ids.shape[1]
        if self.documents_BS is None:
            return torch.arange(num_past, num_past + num_tokens, device=input_ids.device)[None]
        real_BS = self.documents_BS > 0
        counted_BS = real_BS.cumsum(-1) - 1
        if self.documents_BS.dtype != torch.bool:
            highest_BS = self.documents_BS.cummax(-1).values
            begins_BS = real_BS & (highest_BS.diff(dim=-1, prepend=torch.zeros_like(highest_BS[:, :1])) > 0)
            counted_BS = counted_BS - counted_BS.where(begins_BS, 0).cummax(-1).values
        return counted_BS.clamp(min=0)[:, -num_tokens:]

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What a kernel makes of this description, made for the first layer that asks.

        A compiled block makes it again, which costs it less than to remember would: what differs between the
        first block and the others would be compiled twice.
        """
        if name not in self._made and torch.compiler.is_compiling():
            return make()
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def find_out(self) -> None:
        """Asks now for what depends on values of the documents, and so would end a compiled graph."""
        _ = self.is_right_padded
        if self.documents_BS is not None and self.documents_BS.is_cuda:
            _ = self.boundaries

    @property
    def real(self) -> Tensor | None:
        """Boolean (batch, tokens), true where a token is no padding; None where none is."""
        return None if self.documents_BS is None else self.documents_BS > 0

    @property
    def is_right_padded(self) -> bool:
        """Whether it is known that all padding stands at the ends of rows of one document."""
        documents_BS = self.documents_BS
        if documents_BS is None:
            return True
        if documents_BS.dtype != torch.bool or documents_BS.device.type != "cpu":
            return False
        if torch.compiler.is_exporting():
            return False
        if "right" not in self._found:
            self._found["right"] = not bool((documents_BS[:, 1:] > documents_BS[:, :-1]).any())
        return bool(self._found["right"])

    @property
    def boundaries(self) -> Tensor:
        """Where documents begin in rows that are laid end to end, and where the last one ends; int32."""
        documents_BS = self.documents_BS
        assert documents_BS is not None
        if "boundaries" not in self._found:
            begins_BS = torch.ones_like(documents_BS, dtype=torch.bool)
            begins_BS[:, 1:] = documents_BS[:, 1:] != documents_BS[:, :-1]
            starts = begins_BS.flatten().nonzero().flatten()
            self._found["boundaries"] = F.pad(starts, (0, 1), value=documents_BS.numel()).int()
        boundaries: Tensor = self._found["boundaries"]
        return boundaries

    def shows_all(self, num_keys: int) -> bool:
        """Whether it is known that the last of so many tokens, or one of another text, sees all of them."""
        is_open = self.documents_BS is None and self.bias_BHTS is None and self.prefix_BS is None
        return is_open and not self.is_short(num_keys)

    def is_short(self, num_keys: int) -> bool:
        """Whether some of so many tokens may be too far away to be seen."""
        if self.reach is None:
            return False
        return torch.compiler.is_exporting() or self.reach < num_keys  # a graph takes rows of any length

    def of_newest(self, num_keys: int) -> "Mask":
        """The same view of the newest tokens alone, which may be all that a cache kept."""
        documents_BS, prefix_BS = (
            part if part is None or self.is_across else part[:, -num_keys:]
            for part in (self.documents_BS, self.prefix_BS)
        )
        return replace(self, documents_BS=documents_BS, prefix_BS=prefix_BS, _found={})

    def dense(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """What is added to scores (batch or 1, heads or 1, queries or 1, keys); None where it is nothing.

        Boolean, true where seen, or, where there is a bias, the bias with minus infinity where not seen.
        The queries are the last of the keys, or another text's; the keys are all tokens or the newest ones.
        """
        seen = self.once(f"seen {num_queries} {num_keys}", lambda: self._seen(num_queries, num_keys, device))
        if self.bias_BHTS is None or seen is None:
            return seen if self.bias_BHTS is None else self.bias_BHTS
        return self.bias_BHTS.masked_fill(~seen, -torch.inf)

    def _seen(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        near = None if self.is_across else self._near(num_queries, num_keys, device)
        together = self._together(num_queries, num_keys, is_ordered=near is not None)
        if near is None or together is None:
            return together if near is None else near
        return near & together

    def _near(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """By order and distance alone, (batch or 1, 1, queries, keys)."""
        is_ordered = self.is_causal and (num_queries > 1 or self.prefix_BS is not None)
        if not (is_ordered or self.is_short(num_keys)):
            return None
        keys_S = torch.arange(num_keys, device=device)
        before_TS = keys_S[num_keys - num_queries :, None] - keys_S
        near = before_TS.abs() < (num_keys if self.reach is None else self.reach)
        if not self.is_causal:
            return near[None, None]
        if self.prefix_BS is None:
            return (near & (before_TS >= 0))[None, None]
        return near & ((before_TS >= 0) | self.prefix_BS[:, None, None, -num_keys:])

    def _together(self, num_queries: int, num_keys: int, *, is_ordered: bool) -> Tensor | None:
        """By documents alone, (batch, 1, queries or 1, keys)."""
        seen_BS = self.documents_BS
        if seen_BS is None:
            return None
        asking_BT = self.asking_BT if self.is_across else seen_BS[:, -num_queries:]
        seen_BS = seen_BS[:, -num_keys:]
        is_packed = seen_BS.dtype != torch.bool
        if asking_BT is None or not (is_packed or is_ordered):  # what is padding may then see what is real
            together = (seen_BS == 1)[:, None, None, :]
        else:
            together = (asking_BT[:, :, None] == seen_BS[:, None, :])[:, None]
            if not self.is_across:
                return together  # each token sees itself
        return together | ~together.any(-1, keepdim=True)  # softmax over nothing would be NaN
