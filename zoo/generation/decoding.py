"""The decoding loop: tokens in, tokens out, one at a time, with a cache."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation.caches import Cache
from zoo.generation.samplers import Sampler
from zoo.layers import Mask

Step = Callable[[Tensor, Mask, Cache], Tensor]
"""Ids (batch, tokens), what they see and what came before, to the next ones' logits (batch, vocab_size)."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """When to stop, and how to choose."""

    max_new_tokens: int
    sampler: Sampler
    eos_token_ids: frozenset[int] = frozenset()
    """A row ends with any of these, which is kept."""
    should_stop: Callable[[int, list[int]], bool] | None = None
    """Whether a row, by its number, ends with these new tokens; asked after each."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise GenerationError(f"`max_new_tokens` must be at least 1, got {self.max_new_tokens}")


@torch.inference_mode()
def decode(step: Step, prompts: list[list[int]], decoding: Decoding, device: torch.device) -> list[list[int]]:
    """Continues each prompt; a batch of prompts gives what each alone would.

    Args:
        step: The model.
        prompts: Token ids, none empty; they are padded on the left.
        decoding: When to stop, and how to choose.
        device: Where the model is.

    Returns:
        The new ids of each prompt, without those after its end.
    """
    if not prompts:
        return []
    longest = max(map(len, prompts))
    ids_BT = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    real_BT = torch.tensor(
        [[False] * (longest - len(prompt)) + [True] * len(prompt) for prompt in prompts], device=device
    )
    is_padded = not bool(real_BT.all())
    cache = Cache(longest + decoding.max_new_tokens)
    rows: list[list[int]] = [[] for _ in prompts]
    open_rows = set(range(len(prompts)))
    for _ in range(decoding.max_new_tokens):
        logits_BV = step(ids_BT, Mask(real_BT if is_padded else None), cache)
        chosen_B = decoding.sampler(logits_BV)
        for row, token in enumerate(chosen_B.tolist()):
            if row in open_rows:
                rows[row].append(token)
                stops = decoding.should_stop is not None and decoding.should_stop(row, rows[row])
                if token in decoding.eos_token_ids or stops:
                    open_rows.remove(row)
        if not open_rows:
            break
        ids_BT = chosen_B[:, None]
        real_BT = torch.cat((real_BT, real_BT.new_ones(len(prompts), 1)), -1)
    return rows
