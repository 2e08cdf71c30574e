"""Equality with a reference of what a model writes: greedily and by beams."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from zoo.generation import Beams, Decoding, Sampler
from zoo.modules.generating import GeneratingModule

Writer = Callable[[Sequence[Sequence[int]], Decoding], list[list[int]]]
"""Prompts, and how to write, to the new ids of each; under beams, the best of each in turn."""

WAYS: tuple[Beams | None, ...] = (
    None,
    Beams(num_beams=3, num_return_sequences=2),
    Beams(num_beams=2, length_penalty=-0.5, early_stopping=True),
)
"""Greedily, and by beams."""


def assert_writes_alike(module: GeneratingModule, reference: Writer, *, num_tokens: int = 8) -> None:
    """Asserts that a batch of prompts of mixed lengths is written as by a reference, and as one by one.

    Args:
        module: A built module whose first head writes.
        reference: What it must equal.
        num_tokens: How many to write.

    Raises:
        AssertionError: It shows what differs.
    """
    generator = torch.Generator().manual_seed(0)
    prompts = [
        torch.randint(3, module.spec.vocab_size, (length,), generator=generator).tolist()
        for length in (5, 9, 2)
    ]
    head = module.writer()
    for beams in WAYS:
        free = Decoding(max_new_tokens=num_tokens, sampler=Sampler(), beams=beams)
        first = module.new_ids(prompts[:1], free, head)[0]
        ending = Decoding(
            max_new_tokens=num_tokens,
            sampler=Sampler(),
            beams=beams,
            eos_token_ids=frozenset(first[num_tokens // 2 : num_tokens // 2 + 1]),
        )
        for decoding in (free, ending):
            together = module.new_ids(prompts, decoding, head)
            assert together == reference(prompts, decoding), f"the reference writes otherwise: {decoding}"
            alone = [row for prompt in prompts for row in module.new_ids([prompt], decoding, head)]
            assert together == alone, f"prompts alone are written otherwise: {decoding}"


def writer_of(model: Any) -> Writer:
    """A model of transformers as a reference."""

    def write(prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
        longest = max(map(len, prompts))
        is_read = bool(model.config.is_encoder_decoder)
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        real = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            place = slice(0, len(prompt)) if is_read else slice(longest - len(prompt), longest)
            ids[row, place], real[row, place] = torch.tensor(prompt), 1
        beams = decoding.beams or Beams(num_beams=1)
        ends = sorted(decoding.eos_token_ids)
        found = model.generate(
            ids,
            attention_mask=real,
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False,
            num_beams=beams.num_beams,
            length_penalty=beams.length_penalty,
            early_stopping=beams.early_stopping,
            num_return_sequences=beams.num_return_sequences,
            eos_token_id=ends or None,
            pad_token_id=0,
            use_cache=False,  # T5's is too small where the decoder is deeper than the encoder
        )
        new = found[:, 1 if is_read else longest :].tolist()
        return [_ended(row, decoding) for row in new]

    return write


def _ended(row: list[int], decoding: Decoding) -> list[int]:
    """Without the padding after a row's end."""
    ends = [index for index, token in enumerate(row) if token in decoding.eos_token_ids]
    return row[: ends[0] + 1] if ends else row
