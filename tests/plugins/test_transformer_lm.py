"""The classic language model beside torch's own layers, with copied weights."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo.errors import SpecError
from zoo.modules import DecoderModule
from zoo.testing import Reference
from zoo.testing.parity import Parity, padded_batch, scramble
from zoo.testing.ways import Way

from .conftest import STEPS, WAYS, of_torch, sinusoids

pytestmark = [  # the compiler's own
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
NAME = f"torch.nn {torch.__version__}"


class TorchLM(nn.Module):
    """Written from torch's documentation: embedding · √d, sinusoids, encoder layers, a linear decoder."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_size)
        layer = nn.TransformerEncoderLayer(
            spec.hidden_size,
            spec.num_attention_heads,
            spec.intermediate_size,
            spec.dropout,
            activation=spec.hidden_act,
            layer_norm_eps=spec.layer_norm_eps,
            batch_first=True,
        )
        self.stack = nn.TransformerEncoder(layer, spec.num_hidden_layers, enable_nested_tensor=False)
        self.decoder = nn.Linear(spec.hidden_size, spec.vocab_size)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        ids = batch["input_ids"]
        length, width = ids.shape[1], self.embedding.embedding_dim
        x = self.embedding(ids) * math.sqrt(width)
        x = x + sinusoids(length, width).to(x)
        causal = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
        x = self.stack(x, mask=causal, src_key_padding_mask=batch["attention_mask"] == 0)
        logits = self.decoder(x)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
        return logits, loss


def parts(num_layers: int) -> dict[str, str]:
    found = {"embedding": "embedding", "decoder": "decoder"}
    for index in range(num_layers):
        mine, theirs = f"blocks.{index}", f"stack.layers.{index}"
        found |= {
            f"{mine}.attention": f"{theirs}.self_attn",
            f"{mine}.attention_norm": f"{theirs}.norm1",
            f"{mine}.feedforward.up": f"{theirs}.linear1",
            f"{mine}.feedforward.down": f"{theirs}.linear2",
            f"{mine}.feedforward_norm": f"{theirs}.norm2",
        }
    return found


def pair(**sizes: Any) -> tuple[DecoderModule, Reference]:
    family = zoo.decoders.TransformerLM
    spec = family(**{**family.tiny, "dropout": 0.0, "attention_dropout": 0.0, **sizes})
    module = DecoderModule(backbone=spec)
    module.build()
    scramble(module)
    return module, of_torch(module.eval(), TorchLM(spec), parts(spec.num_hidden_layers))


@pytest.mark.parametrize("sizes", [{}, {"hidden_act": "gelu"}, {"num_attention_heads": 1}], ids=str)
def test_logits_loss_and_every_gradient_equal_torch_in_parity(
    prove: Callable[..., Parity], sizes: dict[str, Any]
) -> None:
    prove(*pair(**sizes), padded_batch(96), NAME, str(sizes))


@pytest.mark.parametrize("way", WAYS)
def test_it_is_in_parity_however_it_is_computed(prove_in: Callable[..., None], way: Way) -> None:
    prove_in(way, pair, padded_batch(96), NAME)


def test_it_learns_what_torch_does_in_parity(prove_learning: Callable[..., None]) -> None:
    prove_learning(*pair(), [padded_batch(96, seed=step) for step in range(STEPS)], NAME)


def test_cached_decoding_equals_the_whole_text_again() -> None:
    family = zoo.decoders.TransformerLM
    module = DecoderModule(backbone=family(**family.tiny))
    module.build()
    module.eval()
    ids = torch.randint(0, 96, (2, 5))
    new = module.generate(ids, max_new_tokens=10)
    for row, prompt in zip(new, ids.tolist(), strict=True):
        so_far = list(prompt)
        for token in row:
            assert int(module(torch.tensor([so_far])).logits[0, -1].argmax()) == token
            so_far.append(token)


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"^`hidden_size` must be even, as sines and cosines take turns, got 33\n"
    ):
        zoo.decoders.TransformerLM(hidden_size=33, num_attention_heads=3)
