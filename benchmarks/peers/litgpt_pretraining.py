"""LitGPT's own pretraining, a turn at a time; `benchmarks/litgpt_step.py` starts it, by LitGPT's Python.

`litgpt.pretrain.setup` runs as it is, with its loop, loss, clipping, logging and `torch.compile`. Only its
data are ours: before the batches of a turn it waits for a line of input that says how many steps the turn
has, and when they are done it answers with their seconds. The first line of output counts the weights.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from litgpt import pretrain
from litgpt.args import EvalArgs, TrainArgs
from litgpt.config import Config
from litgpt.data import DataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

# Answers go where output went; what LitGPT prints joins the errors.
ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def answer(**values: float) -> None:
    """One line to whoever takes turns with us."""
    print(json.dumps(values), file=ANSWERS)


class Turns(IterableDataset[Tensor]):
    """Rows of ids, one longer than the model reads, as many batches as each turn asks for."""

    def __init__(self, vocab_size: int, batch_size: int, tokens: int) -> None:
        self.rows = torch.randint(vocab_size, (16, batch_size, tokens + 1))

    def __iter__(self) -> Iterator[Tensor]:
        for line in sys.stdin:
            wall, cpu = time.perf_counter(), time.process_time()
            for step in range(int(line)):
                yield self.rows[step % len(self.rows)]
            answer(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)
        sys.exit()


class Data(DataModule):
    """The turns, as LitGPT takes its data."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.turns = turns

    def connect(self, **settings: Any) -> None:
        """Everything is known already."""

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches as they come."""
        return DataLoader(self.turns, batch_size=None)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """The one batch that LitGPT tries before it starts."""
        return DataLoader(self.turns.rows[:1], batch_size=None)


class FusedAdamW(torch.optim.AdamW):
    """Fused as ours is: LitGPT itself asks for that on a GPU only."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        params = list(params)
        answer(weights=sum(parameter.numel() for parameter in params))
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)


def main() -> None:
    """Trains what the argument describes, until there is no more input."""
    shape = json.loads(sys.argv[1])
    tokens, batch_size = shape["max_position_embeddings"], shape["batch_size"]
    config = Config(
        name="a Llama",
        block_size=tokens,
        vocab_size=shape["vocab_size"],
        padded_vocab_size=shape["vocab_size"],
        n_layer=shape["num_hidden_layers"],
        n_head=shape["num_attention_heads"],
        n_embd=shape["hidden_size"],
        intermediate_size=shape["intermediate_size"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=1e-6,
        mlp_class_name="LLaMAMLP",
    )
    pretrain.setup(
        config.name,
        config,
        out_dir=Path(shape["folder"]),
        precision=shape["precision"],
        data=Data(Turns(config.vocab_size, batch_size, tokens)),
        train=TrainArgs(
            save_interval=None,
            log_interval=shape["log_interval"],
            global_batch_size=batch_size,
            micro_batch_size=batch_size,
            max_tokens=batch_size * tokens * shape["length"],
            max_norm=shape["gradient_clip_val"],
            lr_warmup_steps=None,
            tie_embeddings=shape["tie_word_embeddings"],
        ),
        eval=EvalArgs(interval=shape["length"] + 1, final_validation=False),
        optimizer={"class_path": "__main__.FusedAdamW", "init_args": shape["optimizer"]},
        devices=1,
    )


if __name__ == "__main__":
    main()
