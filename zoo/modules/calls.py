"""What one call of `generate` asks for, checked as a whole before anything is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation import Choices, Decoding, Processor, RowText, Settings, Stopping
from zoo.heads.base import Head
from zoo.tokenizer import Message, Tokenizer

if TYPE_CHECKING:
    from zoo.modules.generating import GeneratingModule

Inputs = str | Sequence[str] | Sequence[Message] | Sequence[Sequence[Message]] | Tensor
"""A text, a chat, several of either, or ids (batch, tokens)."""


@dataclass(frozen=True)
class Call:
    """Prompts, and how they are to be continued or answered."""

    prompts: list[list[int]]
    """Each as often as texts of it are asked for; once where they are found together, by beams."""
    decoding: Decoding
    head: Head
    settings: Settings

    @classmethod
    def of(
        cls,
        module: "GeneratingModule",
        inputs: Inputs,
        *,
        attention_mask: Tensor | None = None,
        max_new_tokens: int | None = None,
        choices: Sequence[str] | None = None,
        processors: Sequence[Processor] = (),
        seed: int | None = None,
        head: str | None = None,
        stop: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> Self:
        """From the arguments of `generate`; what is not given is as generation_config.json says.

        Raises:
            GenerationError: As `generate` does.
        """
        chosen = Settings.of(module.generation_config, stop_strings=stop, **settings)
        given = prompts_of(inputs, attention_mask, module.tokenizer)
        limit = module.room(given, max_new_tokens, chosen)
        ends = module.eos_token_ids
        # A search by beams finds several texts of a prompt at once.
        num_draws = 1 if chosen.beams else chosen.num_return_sequences
        prompts = [prompt for prompt in given for _ in range(num_draws)]
        among = None if choices is None else Choices(_spelled(module, choices, prompts[:1]), ends)

        def make_text(index: int) -> RowText:
            return module.text_of(prompts[index], chosen.stop)

        decoding = Decoding(
            max_new_tokens=limit,
            sampler=chosen.sampler,
            processors=chosen.processors(ends, limit, [*([among] if among else ()), *processors]),
            seed=seed,
            eos_token_ids=ends,
            should_stop=Stopping(make_text if chosen.stop else None, among.is_complete if among else None)
            if chosen.stop or among
            else None,
            beams=chosen.beams,
        )
        return cls(prompts, decoding, module.writer(head), chosen)


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


def _spelled(
    module: "GeneratingModule", texts: Sequence[str], prompts: list[list[int]]
) -> dict[str, list[int]]:
    """Ids that say each text where they are written after a prompt."""
    tokenizer = module.require_tokenizer()

    def ids_of(text: str) -> list[int]:
        # Some tokenizers put a space before a text that stands alone.
        for anchor in ("", "\n", "."):
            before, both = tokenizer.encode_batch([anchor, anchor + text], special=False)
            ids = both[len(before) :]
            if both == before + ids and all(module.new_text(prompt, ids) == text for prompt in prompts):
                return ids
        return tokenizer.encode(text, special=False)

    return {text: ids_of(text) for text in texts}
