"""The operations of a step, beside the formula of the literature."""

from typing import Any

import pytest
import torch

import zoo
from zoo.training.flops import StepFlops, peak


def test_a_decoders_step_costs_what_the_formula_says() -> None:
    layers, width, wide, vocabulary, rows, tokens = 3, 64, 160, 300, 2, 48
    spec = zoo.decoders.Llama(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=wide, num_hidden_layers=layers,
        num_attention_heads=4,
    )  # fmt: skip
    module = zoo.modules.DecoderModule(spec)
    module.build()
    batch = {"input_ids": torch.zeros(rows, tokens, dtype=torch.long)}
    counted = StepFlops(module)(batch, rows * tokens)
    multiplying = layers * (4 * width**2 + 3 * width * wide) + vocabulary * width
    per_token = 6 * multiplying + 12 * layers * width * tokens
    assert counted == per_token * rows * tokens


def test_the_head_costs_where_there_is_a_label() -> None:
    spec = zoo.encoders.Bert(**{**zoo.encoders.Bert.tiny, "pad_token_id": 0})
    module = zoo.modules.EncoderModule(spec, zoo.heads.MaskedLM())
    module.build()
    count = StepFlops(module)
    batch = {"input_ids": torch.zeros(2, 16, dtype=torch.long)}
    assert count(batch, 5) - count(batch, 0) == 6 * 5 * (32 * 32 + 96 * 32)


def test_both_stacks_of_an_encoder_decoder_are_counted() -> None:
    spec = zoo.encoder_decoders.Transformer(**zoo.encoder_decoders.Transformer.tiny)
    module = zoo.modules.EncoderDecoderModule(spec)
    module.build()
    count = StepFlops(module)

    def batch(read: int, written: int) -> dict[str, Any]:
        return {
            "input_ids": torch.zeros(1, read, dtype=torch.long),
            "labels": torch.zeros(1, written, dtype=torch.long),
        }

    assert count(batch(8, 8), 0) < count(batch(16, 8), 0)
    assert count(batch(8, 8), 0) < count(batch(8, 16), 0)


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [
        ("NVIDIA H200", "bf16-mixed", 989e12),
        ("NVIDIA H100 80GB HBM3", "bf16-true", 989e12),
        ("NVIDIA H100 PCIe", "16-mixed", 756e12),
        ("NVIDIA A100-SXM4-40GB", "bf16-mixed", 312e12),
        ("NVIDIA H200", "32-true", None),
        ("A card of tomorrow", "bf16-mixed", None),
    ],
)
def test_what_a_device_could_do_is_known_or_left_out(
    name: str, precision: str, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak(torch.device("cuda"), precision) == expected
    assert peak(torch.device("cpu"), precision) is None
