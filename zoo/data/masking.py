"""Hiding tokens for masked language models.

Devlin et al., 2018, section 3.1: https://arxiv.org/abs/1810.04805
"""

import zlib

import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.tokenizer import Tokenizer


class Masking:
    """Batches in which some tokens are hidden: of these 80 % by the mask token, 10 % by another, 10 % not.

    Args:
        tokenizer: Its special tokens are never hidden.
        fraction: Share of tokens that is asked for.
        seed: Hides the same tokens of a row each time; None draws anew, as RoBERTa does.
        whole_words: Asks for all tokens of a word or for none.

    Raises:
        DataError: The tokenizer has no mask token.
    """

    def __init__(
        self, tokenizer: Tokenizer, fraction: float, seed: int | None = None, *, whole_words: bool = False
    ) -> None:
        mask_id = mask_id_of(tokenizer, hint="use data.tokenizer: wordpiece")
        self.mask_id, self.fraction, self.seed = mask_id, fraction, seed
        self.mask_token = tokenizer.decode([mask_id], skip_special=False)
        special = tokenizer.backend.get_added_tokens_decoder()
        self.is_special = torch.tensor([number in special for number in range(tokenizer.vocab_size)])
        self.begins_word = torch.tensor(tokenizer.begins_word()) if whole_words else None

    def __call__(self, rows: list[Batch]) -> Batch:
        """One batch; `labels` are the hidden tokens, -100 elsewhere. What had no label is padding."""
        ids_BT = torch.stack([row["input_ids"] for row in rows])
        real_BT = torch.stack([row["labels"] for row in rows]) != IGNORED
        draw_BT, fate_BT, other_BT = torch.stack([self._draws(ids_T) for ids_T in ids_BT], dim=1)
        if self.begins_word is not None:
            draw_BT = draw_BT.gather(1, _first_of_word(self.begins_word[ids_BT]))
        hidden_BT = (draw_BT < self.fraction) & real_BT & ~self.is_special[ids_BT]
        others_BT = (other_BT * len(self.is_special)).long()
        changed_BT = torch.where(fate_BT < 0.8, self.mask_id, torch.where(fate_BT < 0.9, others_BT, ids_BT))
        batch = {
            "input_ids": torch.where(hidden_BT, changed_BT, ids_BT),
            "labels": ids_BT.masked_fill(~hidden_BT, IGNORED),
        }
        return batch if bool(real_BT.all()) else {**batch, "attention_mask": real_BT.long()}

    def _draws(self, ids_T: Tensor) -> Tensor:
        """Three numbers from 0 to 1 for each token of a row: whether, how and by what it is hidden."""
        return torch.rand(3, len(ids_T), generator=generator_of(ids_T, self.seed))


def _first_of_word(begins_BT: Tensor) -> Tensor:
    """Where the word of each token begins in its row."""
    places_BT = torch.arange(begins_BT.shape[1]).expand_as(begins_BT)
    return places_BT.where(begins_BT, 0).cummax(dim=1).values


def generator_of(ids_T: Tensor, seed: int | None) -> torch.Generator | None:
    """Draws the same for a row each time; None, which is torch's own, without a seed."""
    if seed is None:
        return None
    return torch.Generator().manual_seed(seed + zlib.crc32(ids_T.numpy().tobytes()))


def mask_id_of(tokenizer: Tokenizer, hint: str) -> int:
    """The id that hides tokens.

    Raises:
        DataError: The tokenizer has none.
    """
    found = tokenizer.special_id("mask_token")
    if found is None:
        raise DataError("the tokenizer has no `mask_token` to hide tokens with", hint=hint)
    return found
