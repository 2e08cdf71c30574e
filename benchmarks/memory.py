"""Peak memory of one training step of a causal LM with a large vocabulary, beside transformers.

Same sizes, same batch, float32, SDPA; transformers with its default loss. Each side runs in a process of its
own: its peak is what the step adds to the memory that the built model holds. The last line is JSON; `ratio`
is transformers' peak over the zoo's.

    python benchmarks/memory.py [--turns 2] [--vocab-size 128000] [--tokens 1024]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

SIZES = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "tie_word_embeddings": True,
}


def zoo_loss(vocab_size: int, length: int) -> tuple[torch.nn.Module, Callable[[Tensor], Tensor]]:
    """The zoo's model, and its loss of a batch of ids."""
    import zoo

    spec = zoo.decoders.Llama(vocab_size=vocab_size, max_position_embeddings=length, **SIZES)
    module = zoo.modules.DecoderModule(backbone=spec)
    module.build()

    def loss(input_ids: Tensor) -> Tensor:
        batch = {"input_ids": input_ids, "labels": input_ids.roll(-1, 1)}
        return module.head().loss(module.hidden_states(batch), batch).mean

    return module, loss


def transformers_loss(vocab_size: int, length: int) -> tuple[torch.nn.Module, Callable[[Tensor], Tensor]]:
    """The peer's model, and its default loss."""
    import transformers

    config = transformers.LlamaConfig(vocab_size=vocab_size, max_position_embeddings=length, **SIZES)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model, lambda input_ids: model(input_ids=input_ids, labels=input_ids, use_cache=False).loss


SIDES = {"zoo": zoo_loss, "transformers": transformers_loss}


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The most that it ever held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def step(side: str, vocab_size: int, tokens: int) -> int:
    """Bytes that forward, backward and optimizer add at their peak."""
    torch.manual_seed(0)
    model, loss = SIDES[side](vocab_size, tokens)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    input_ids = torch.randint(0, vocab_size, (1, tokens))
    before = resident()
    assert before > 0.8 * peak(), "building the model took more memory than the model"
    loss(input_ids).backward()
    optimizer.step()
    return peak() - before


def in_a_process(side: str, choices: argparse.Namespace) -> int:
    """The same, in a process that has done nothing else."""
    sizes = (f"--vocab-size={choices.vocab_size}", f"--tokens={choices.tokens}")
    done = subprocess.run(
        [sys.executable, __file__, f"--side={side}", *sizes], capture_output=True, text=True, check=True
    )
    return int(done.stdout.splitlines()[-1])


def main() -> None:
    """Takes turns and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1, help="always one: a second adds nothing to the peak")
    parser.add_argument("--vocab-size", type=int, default=128_000)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    choices = parser.parse_args()
    if choices.side:
        print(step(choices.side, choices.vocab_size, choices.tokens))
        return
    taken: dict[str, list[int]] = {side: [] for side in SIDES}
    for _ in range(choices.turns):
        for side in SIDES:
            taken[side].append(in_a_process(side, choices))
    mib = {side: statistics.median(values) / 2**20 for side, values in taken.items()}
    print(", ".join(f"{side} {value:.0f} MiB" for side, value in mib.items()))
    summary = {
        "benchmark": Path(__file__).stem,
        **{f"{side}_mib": round(value, 1) for side, value in mib.items()},
        "ratio": round(mib["transformers"] / mib["zoo"], 3),
        "vocab_size": choices.vocab_size,
        "tokens": choices.tokens,
        "turns": choices.turns,
        "versions": {"torch": torch.__version__},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
