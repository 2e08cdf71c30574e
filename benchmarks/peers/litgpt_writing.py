"""LitGPT's own `generate`, a turn at a time; `benchmarks/generate.py` starts it, by LitGPT's Python.

For each line of input, which says how many new tokens are wanted of a prompt of how many, it answers with the
seconds that they took. Weights are random; the first line of output counts them.
"""

import json
import sys
import time
from typing import Any

import torch
from litgpt import GPT, Config
from litgpt.generate.base import generate


def llama(sizes: dict[str, Any]) -> GPT:
    """A Llama of a config.json's sizes, its projection tied."""
    config = Config(
        block_size=sizes["max_position_embeddings"],
        padded_vocab_size=sizes["vocab_size"],
        vocab_size=sizes["vocab_size"],
        n_layer=sizes["num_hidden_layers"],
        n_head=sizes["num_attention_heads"],
        n_embd=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    model = GPT(config).eval()
    model.lm_head.weight = model.transformer.wte.weight
    return model


@torch.inference_mode()
def main() -> None:
    """Answers line by line until there are no more."""
    model = llama(json.loads(sys.argv[1]))
    print(sum(weight.numel() for weight in model.parameters()), flush=True)
    for line in sys.stdin:
        prompt, new = json.loads(line)
        ids = torch.randint(3, 500, (prompt,))
        before = time.perf_counter()
        model.max_seq_length = prompt + new
        model.set_kv_cache(batch_size=1)
        written = generate(model, ids, prompt + new, temperature=0.0, include_prompt=False)
        model.clear_kv_cache()
        assert len(written) == new
        print(time.perf_counter() - before, flush=True)


if __name__ == "__main__":
    main()
