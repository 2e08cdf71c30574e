"""Writing, token by token."""

import torch
from torch import Tensor

from zoo.generation import Cache, Decoding, Sampler
from zoo.layers import Mask
from zoo.modules.generating import GeneratingModule
from zoo.testing.checks import Skip
from zoo.testing.families import Family, padded, random_texts, require_alike


@torch.no_grad()
def cached_equals_uncached(family: Family) -> None:
    """With a cache, read in pieces or token by token, hidden states are those of the whole text."""
    module = _writing(family)
    read, written = (
        random_texts(lengths, module.spec.vocab_size, seed) for seed, lengths in enumerate(((6, 4), (11, 7)))
    )
    ids_BT, real_BT = padded(written, module.spec.pad_token_id or 0, left=True)
    model, cache = module.model_under(module.writer()), Cache(max_tokens=11)
    if module.shape == "encoder-decoder":
        assert model.read is not None
        cache.source = model.read(read)
        seen_ids, seen_real = padded(read, module.spec.pad_token_id or 0)
        batch = {"input_ids": seen_ids, "attention_mask": seen_real}
        whole = {**batch, "decoder_input_ids": ids_BT, "decoder_attention_mask": real_BT}
    else:
        whole = {"input_ids": ids_BT, "attention_mask": real_BT}
    expected = module.hidden_states(whole)
    pieces: list[Tensor] = []
    for start, end in ((0, 5), (5, 8), *((end - 1, end) for end in range(9, 12))):
        mask = Mask.from_attention_mask(real_BT[:, :end])
        pieces.append(model.hidden_states(ids_BT[:, start:end], mask, cache))
    real = real_BT.bool()
    require_alike(torch.cat(pieces, 1)[real], expected[real], "hidden states with and without a cache")


@torch.no_grad()
def it_writes_alone_what_it_writes_in_a_batch(family: Family) -> None:
    """Prompts of mixed lengths are continued as each would be alone, greedily."""
    module = _writing(family)
    prompts = random_texts((5, 9, 2), module.spec.vocab_size, 0)
    decoding = Decoding(max_new_tokens=6, sampler=Sampler())
    together = module.new_ids(prompts, decoding, module.writer())
    alone = [module.new_ids([prompt], decoding, module.writer())[0] for prompt in prompts]
    assert together == alone, f"together it writes {together}, alone {alone}"


def _writing(family: Family) -> GeneratingModule:
    module = family.scrambled()
    if not isinstance(module, GeneratingModule):
        raise Skip(f"an {module.shape} writes nothing")
    return module
