"""The Transformer beside torch's own layers, with copied weights."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo.errors import SpecError
from zoo.heads.base import Batch
from zoo.modules import EncoderDecoderModule
from zoo.testing import Reference
from zoo.testing.batches import batch_for
from zoo.testing.parity import Parity, scramble
from zoo.testing.ways import Way

from .conftest import STEPS, WAYS, of_torch, sinusoids

pytestmark = [  # the compiler's own
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
NAME = f"torch.nn {torch.__version__}"

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gelu": {"hidden_act": "gelu"},
    "one head": {"num_attention_heads": 1},
    "fewer decoder blocks": {"num_decoder_layers": 1},
    "untied": {"tie_word_embeddings": False},
}


class TorchTransformer(nn.Module):
    """The paper's figure 1, of torch's layers; `nn.Transformer` would add a norm to both stacks."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        width = spec.hidden_size
        self.embedding = nn.Embedding(spec.vocab_size, width)
        self.projection = nn.Linear(width, spec.vocab_size, bias=False)
        if spec.tie_word_embeddings:
            self.projection.weight = self.embedding.weight
        sizes = (width, spec.num_attention_heads, spec.intermediate_size, spec.dropout, spec.hidden_act)
        more: dict[str, Any] = {"layer_norm_eps": spec.layer_norm_eps, "batch_first": True}
        encoder = nn.TransformerEncoderLayer(*sizes, **more)
        self.encoder = nn.TransformerEncoder(encoder, spec.num_hidden_layers, enable_nested_tensor=False)
        decoder = nn.TransformerDecoderLayer(*sizes, **more)
        self.decoder = nn.TransformerDecoder(decoder, spec.num_decoder_layers or spec.num_hidden_layers)

    def embed(self, ids: Tensor) -> Tensor:
        width = self.embedding.embedding_dim
        x = self.embedding(ids) * math.sqrt(width)
        return x + sinusoids(ids.shape[1], width).to(x)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        labels, padding = batch["labels"], batch["attention_mask"] == 0
        read = torch.full_like(labels, 0)
        read[:, 1:] = labels[:, :-1].clamp(min=0)
        memory = self.encoder(self.embed(batch["input_ids"]), src_key_padding_mask=padding)
        causal = torch.ones(labels.shape[1], labels.shape[1], dtype=torch.bool).triu(1)
        hidden = self.decoder(self.embed(read), memory, causal, memory_key_padding_mask=padding)
        logits = self.projection(hidden)
        return logits, F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def parts(spec: Any) -> dict[str, str]:
    found = {"embedding": "embedding"} | ({} if spec.tie_word_embeddings else {"projection": "projection"})
    layers = {"encoder": spec.num_hidden_layers, "decoder": spec.num_decoder_layers or spec.num_hidden_layers}
    for stack, index in ((stack, index) for stack, number in layers.items() for index in range(number)):
        mine, theirs = f"{stack}.{index}", f"{stack}.layers.{index}"
        found |= {
            f"{mine}.attention": f"{theirs}.self_attn",
            f"{mine}.attention_norm": f"{theirs}.norm1",
            f"{mine}.feedforward.up": f"{theirs}.linear1",
            f"{mine}.feedforward.down": f"{theirs}.linear2",
            f"{mine}.feedforward_norm": f"{theirs}.{'norm2' if stack == 'encoder' else 'norm3'}",
        }
        if stack == "decoder":
            found[f"{mine}.cross_attention"] = f"{theirs}.multihead_attn"
            found[f"{mine}.cross_attention_norm"] = f"{theirs}.norm2"
    return found


def pair(**sizes: Any) -> tuple[EncoderDecoderModule, Reference]:
    family = zoo.encoder_decoders.Transformer
    spec = family(**{**family.tiny, "dropout": 0.0, **sizes})
    module = EncoderDecoderModule(backbone=spec)
    module.build()
    scramble(module)
    return module, of_torch(module.eval(), TorchTransformer(spec), parts(spec))


def batch(seed: int = 0) -> Batch:
    return batch_for("Seq2SeqLM", zoo.encoder_decoders.Transformer.tiny, seed=seed)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_loss_and_every_gradient_equal_torch_in_parity(
    prove: Callable[..., Parity], variant: str
) -> None:
    prove(*pair(**VARIANTS[variant]), batch(), NAME, variant)


@pytest.mark.parametrize("way", WAYS)
def test_it_is_in_parity_however_it_is_computed(prove_in: Callable[..., None], way: Way) -> None:
    prove_in(way, pair, batch(), NAME)


def test_it_learns_what_torch_does_in_parity(prove_learning: Callable[..., None]) -> None:
    prove_learning(*pair(), [batch(step) for step in range(STEPS)], NAME)


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"^`hidden_size` must be even, as sines and cosines take turns, got 33\n"
    ):
        zoo.encoder_decoders.Transformer(hidden_size=33, num_attention_heads=3)
