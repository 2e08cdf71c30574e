"""Writing with an encoder-decoder: caches, batches, lengths."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import zoo
from zoo.errors import GenerationError
from zoo.generation import Cache
from zoo.layers import Mask
from zoo.modules import EncoderDecoderModule
from zoo.testing.parity import scramble

FAMILIES = ("T5", "Transformer")


def built(family: str, **sizes: Any) -> EncoderDecoderModule:
    spec = getattr(zoo.encoder_decoders, family)
    module = EncoderDecoderModule(backbone=spec(**{**spec.tiny, **sizes}))
    module.build()
    scramble(module, std=0.15)
    module.generation_config = {"eos_token_id": []}
    return module.eval()


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> EncoderDecoderModule:
    return built(request.param)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    pieces=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_cached_hidden_states_equal_uncached_ones(
    model: EncoderDecoderModule, pieces: list[int], lengths: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 96, (len(lengths), max(lengths)), generator=generator)
    written = torch.randint(0, 96, (len(lengths), sum(pieces)), generator=generator)
    mask = Mask(torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])
    backbone: Any = model.backbone
    with torch.inference_mode():
        whole = model.head()(backbone(ids, mask, written, Mask()), {})
        cache, memory = Cache(sum(pieces)), backbone.encode(ids, mask)
        found = [backbone.decode(piece, Mask(), memory, mask, cache) for piece in written.split(pieces, 1)]
        assert_close(model.head()(torch.cat(found, 1), {}), whole, rtol=1e-5, atol=1e-5)


def test_what_is_written_is_what_the_whole_text_again_says(model: EncoderDecoderModule) -> None:
    ids = torch.randint(3, 96, (1, 7), generator=torch.Generator().manual_seed(0))
    written = [model.start_id]
    for _ in range(12):
        logits = model(ids, decoder_input_ids=torch.tensor([written])).logits
        written.append(int(logits[0, -1].argmax()))
    assert model.generate(ids, max_new_tokens=12) == [written[1:]]


def test_a_batch_of_mixed_lengths_writes_what_each_text_alone_would(model: EncoderDecoderModule) -> None:
    ids = torch.randint(3, 96, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(9) < torch.tensor([[9], [4], [1]])).long()
    together = model.generate(ids, attention_mask=mask, max_new_tokens=12)
    for row, length in enumerate((9, 4, 1)):
        assert model.generate(ids[row : row + 1, :length], max_new_tokens=12) == [together[row]]


def test_relative_distances_have_no_end_and_positions_do() -> None:
    ids = torch.randint(3, 96, (1, 70), generator=torch.Generator().manual_seed(2))
    assert len(built("T5", max_position_embeddings=64).generate(ids, max_new_tokens=70)[0]) == 70
    with pytest.raises(GenerationError, match=r"^the model sees at most 64 tokens; the prompt has 70\n"):
        built("Transformer").generate(ids, max_new_tokens=3)
