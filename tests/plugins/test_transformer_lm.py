"""The classic language model beside torch's own layers, with copied weights."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo.errors import SpecError
from zoo.modules import DecoderModule
from zoo.testing import Reference, assert_parity
from zoo.testing.parity import padded_batch

OURS = {
    "attention.output": "self_attn.out_proj",
    "feedforward.up": "linear1",
    "feedforward.down": "linear2",
    "attention_norm": "norm1",
    "feedforward_norm": "norm2",
}


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
        self.layers = nn.TransformerEncoder(layer, spec.num_hidden_layers, enable_nested_tensor=False)
        self.decoder = nn.Linear(spec.hidden_size, spec.vocab_size)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        ids = batch["input_ids"]
        length, width = ids.shape[1], self.embedding.embedding_dim
        table = torch.zeros(length, width)
        for position in range(length):
            for channel in range(0, width, 2):
                angle = position / 10000 ** (channel / width)
                table[position, channel] = math.sin(angle)
                table[position, channel + 1] = math.cos(angle)
        x = self.embedding(ids) * math.sqrt(width) + table
        causal = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
        x = self.layers(x, mask=causal, src_key_padding_mask=batch["attention_mask"] == 0)
        logits = self.decoder(x)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
        return logits, loss


def with_copied_weights(spec: Any) -> tuple[DecoderModule, TorchLM, dict[str, Tensor]]:
    """Both models with one set of weights, and torch's parameters under our names, leaves of its graph."""
    module = DecoderModule(backbone=spec)
    module.build()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs = TorchLM(spec).eval()
    named = {"embedding.weight": theirs.embedding.weight}
    named |= {f"decoder.{part}": getattr(theirs.decoder, part) for part in ("weight", "bias")}
    for index, layer in enumerate(theirs.layers.layers):
        for ours, name in OURS.items():
            for part in ("weight", "bias"):
                named[f"blocks.{index}.{ours}.{part}"] = layer.get_parameter(f"{name}.{part}")
    ours = module.hub_tensors()
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(ours[name])
        for index, layer in enumerate(theirs.layers.layers):
            for part in ("weight", "bias"):
                stacked = [
                    ours[f"blocks.{index}.attention.{name}.{part}"] for name in ("query", "key", "value")
                ]
                getattr(layer.self_attn, f"in_proj_{part}").copy_(torch.cat(stacked))
    return module.eval(), theirs, named


@pytest.mark.parametrize("sizes", [{}, {"hidden_act": "gelu"}, {"num_attention_heads": 1}])
def test_logits_loss_and_every_gradient_equal_torch(sizes: dict[str, Any]) -> None:
    family = zoo.decoders.TransformerLM
    spec = family(**{**family.tiny, **sizes})
    module, theirs, named = with_copied_weights(spec)

    views = {}  # torch fuses query, key and value; their gradients are compared by parts
    for index, layer in enumerate(theirs.layers.layers):
        for part in ("weight", "bias"):
            whole = getattr(layer.self_attn, f"in_proj_{part}")
            for number, name in enumerate(("query", "key", "value")):
                views[f"blocks.{index}.attention.{name}.{part}"] = (whole, number)
    ours = module.hub_tensors()
    for name, (whole, number) in views.items():
        stand_in = torch.empty_like(ours[name])
        whole.register_post_accumulate_grad_hook(
            lambda parameter, stand_in=stand_in, number=number: setattr(
                stand_in, "grad", parameter.grad.chunk(3)[number]
            )
        )
        named[name] = stand_in
    assert_parity(module, Reference(theirs, named), padded_batch(spec.vocab_size))


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
