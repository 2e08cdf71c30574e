"""Hiding tokens for masked language models.

Devlin et al., 2018, section 3.1: https://arxiv.org/abs/1810.04805
"""

import torch
from torch import Tensor
from torch.utils.data import default_collate

from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.tokenizer import Tokenizer


class Masking:
    """Batches in which some tokens are hidden: of these 80 % by the mask token, 10 % by another, 10 % not.

    Args:
        tokenizer: Its special tokens are never hidden.
        fraction: Share of tokens that is asked for.
        seed: Hides the same tokens each time; None draws anew.

    Raises:
        DataError: The tokenizer has no mask token.
    """

    def __init__(self, tokenizer: Tokenizer, fraction: float, seed: int | None = None) -> None:
        mask_id = tokenizer.special_id("mask_token")
        if mask_id is None:
            raise DataError(
                "the tokenizer has no `mask_token` to hide tokens with", hint="use data.tokenizer: wordpiece"
            )
        self.mask_id, self.fraction, self.seed = mask_id, fraction, seed
        special = tokenizer.backend.get_added_tokens_decoder()
        self.is_special = torch.tensor([number in special for number in range(tokenizer.vocab_size)])

    def __call__(self, rows: list[Batch]) -> Batch:
        """One batch; `labels` are the hidden tokens, -100 elsewhere."""
        batch = default_collate([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows])
        generator = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        ids_BT: Tensor = batch["input_ids"]
        draw_BT, fate_BT = torch.rand(2, *ids_BT.shape, generator=generator)
        may_hide_BT = ~self.is_special[ids_BT] & (batch["labels"] != IGNORED)
        hidden_BT = (draw_BT < self.fraction) & may_hide_BT
        others = torch.randint(len(self.is_special), ids_BT.shape, generator=generator)
        changed_BT = torch.where(fate_BT < 0.8, self.mask_id, torch.where(fate_BT < 0.9, others, ids_BT))
        return {
            "input_ids": torch.where(hidden_BT, changed_BT, ids_BT),
            "labels": ids_BT.masked_fill(~hidden_BT, IGNORED),
        }
