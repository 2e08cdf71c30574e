"""What is given to write about, as ids."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.tokenizer import Message, Tokenizer

Inputs = str | Sequence[str] | Sequence[Message] | Sequence[Sequence[Message]] | Tensor
"""A text, a chat, several of either, or ids (batch, tokens)."""


def is_one(inputs: Inputs) -> bool:
    """Whether it is one text or one chat."""
    return isinstance(inputs, str) or (
        not isinstance(inputs, Tensor) and len(inputs) > 0 and isinstance(inputs[0], Mapping)
    )


def prompts_of(inputs: Inputs, attention_mask: Tensor | None, tokenizer: Tokenizer | None) -> list[list[int]]:
    """Ids of each prompt, without padding.

    Raises:
        GenerationError: One is empty, or there is no tokenizer for a text, or no template for a chat.
    """
    prompts = _read(inputs, attention_mask) if isinstance(inputs, Tensor) else _encoded(inputs, tokenizer)
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise GenerationError(f"prompt {index} is empty", hint="give at least one token to continue")
    return prompts


def _read(ids: Tensor, attention_mask: Tensor | None) -> list[list[int]]:
    if ids.ndim != 2:
        raise GenerationError(f"ids must be (batch, tokens), got the shape {tuple(ids.shape)}")
    real = torch.ones_like(ids) if attention_mask is None else attention_mask
    return [row[keep.bool()].tolist() for row, keep in zip(ids, real, strict=True)]


def _encoded(inputs: Any, tokenizer: Tokenizer | None) -> list[list[int]]:
    if tokenizer is None:
        raise GenerationError("the model has no tokenizer, so it takes ids, not text")
    several = [inputs] if is_one(inputs) else inputs
    if all(isinstance(one, str) for one in several):
        return tokenizer.encode_batch(several)
    return [
        tokenizer.encode(one)
        if isinstance(one, str)
        else tokenizer.encode_chat(one, add_generation_prompt=True)
        for one in several
    ]
