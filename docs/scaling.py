"""Memory and traffic of large models on many GPUs, counted without one: the table of docs/scaling.md."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from pages import table, written

import zoo
from zoo.training.footprint import Plan, footprint

PAGE = Path(__file__).with_suffix(".md")
TOKENS, DEVICES = 4096, (8, 64, 512, 4096)
GIB = 2**30


def llama(width: int, wide: int, layers: int, heads: int) -> Any:
    """Llama 3 of these sizes."""
    return zoo.decoders.Llama(
        vocab_size=128256,
        hidden_size=width,
        intermediate_size=wide,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        max_position_embeddings=8192,
    )


MODELS: dict[str, tuple[Any, Any, int]] = {
    "Llama 8B": (llama(4096, 14336, 32, 32), zoo.heads.CausalLM(), 1),
    "Llama 70B": (llama(8192, 28672, 80, 64), zoo.heads.CausalLM(), 8),
    "Llama 405B": (llama(16384, 53248, 126, 128), zoo.heads.CausalLM(), 8),
    "GPT-3 175B": (zoo.decoders.GPT3.sized("175B"), zoo.heads.CausalLM(), 8),
    "T5 11B": (
        zoo.encoder_decoders.T5(
            hidden_size=1024,
            head_dim=128,
            intermediate_size=65536,
            num_hidden_layers=24,
            num_attention_heads=128,
            dropout_rate=0.0,
        ),
        zoo.heads.Seq2SeqLM(),
        1,
    ),
}
"""Each model, its head, and how many GPUs divide its layers."""


def rows() -> list[dict[str, Any]]:
    """One for each model and number of GPUs, in GiB."""
    found = []
    for name, (spec, head, size) in MODELS.items():
        with torch.device("meta"):
            built = head.build(spec)
        for devices in DEVICES:
            tokens = 512 if spec.shape == "encoder-decoder" else min(spec.max_tokens, TOKENS)
            plan = Plan(devices, size, torch.bfloat16, rows=1, tokens=tokens)
            one = footprint(spec, built, plan)
            state = one.weights + one.gradients + one.optimizer
            found.append({
                "model": name, "GPUs": devices, "tensor parallel": size, "tokens": tokens,
                "state": state / GIB, "in use": one.gathered / GIB,
                "activations": one.activations / GIB, "recomputed": one.recomputed / GIB,
                "at most": one.peak() / GIB, "at most, recomputed": one.peak(checkpointing=True) / GIB,
                "sent, sharding": one.sharding_traffic / GIB,
                "sent, tensor parallel": one.tensor_traffic / GIB,
            })  # fmt: skip
    return found


def page(found: list[dict[str, Any]]) -> str:
    """The page with the table as it is now."""
    return written(PAGE, table(found))


if __name__ == "__main__":
    counted = rows()
    PAGE.write_text(page(counted), "utf-8")
    print(table(counted), file=sys.stderr)
    print(json.dumps({"table": "scaling", "rows": len(counted)}))
