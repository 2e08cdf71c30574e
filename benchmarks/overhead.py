"""What the Trainer adds to a step, beside a bare loop over a module of the same weights and batches.

The Trainer has what every run has: the bar, TensorBoard, the learning rate, checkpoints, throughput, the
gradient's norm. The bare loop draws from the same kind of loader, clips and steps as it does. They take turns
within one process. Figures are of the processor's time, which other programs of a shared machine do not
change; the wall clock's stand beside them. The last line is JSON; `ratio` is the bare loop's time over the
Trainer's, so 0.95 is an overhead of 5 %.

    python benchmarks/overhead.py [--turns 60] [--steps 10] [--profile]
"""

import argparse
import cProfile
import functools
import json
import os
import pstats
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

import zoo
from zoo.cli import defaults
from zoo.heads.base import Batch
from zoo.schedules import WarmupCosine
from zoo.training import optimization

SIZES = {
    "vocab_size": 2048,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
ROWS, TOKENS = 4, 64
"""Of a batch; with these sizes a step takes about 20 ms of one core."""


class TakeTurns(Callback):
    """After every few steps of the Trainer, lets the bare loop take as many, and times both."""

    def __init__(self, bare: Callable[[], None], steps: int) -> None:
        self.bare, self.steps = bare, steps
        self.cpu: dict[str, list[float]] = {"trainer": [], "bare": []}
        self.wall: dict[str, list[float]] = {"trainer": [], "bare": []}
        self._clocks = 0.0, 0.0

    def on_train_batch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Hands over before a batch, so that all that the last one entailed is counted."""
        if trainer.global_step % self.steps:
            return
        self._stop("trainer")
        for _ in range(self.steps):
            self.bare()
        self._stop("bare")

    def _stop(self, name: str) -> None:
        now = time.process_time(), time.perf_counter()
        for times, before, after in zip((self.cpu, self.wall), self._clocks, now, strict=True):
            times[name].append(1e3 * (after - before) / self.steps)
        self._clocks = now

    def median(self, name: str) -> float:
        """Milliseconds of the processor a step, the first turns left out."""
        return statistics.median(self.cpu[name][2:])

    def ratio(self, times: dict[str, list[float]]) -> float:
        """The median over turns of what the bare loop takes of the Trainer's time."""
        # What the Trainer does between two looks of ours is in the turn that the second one ends.
        pairs = zip(times["bare"][1:], times["trainer"][2:], strict=False)
        return statistics.median(bare / trainer for bare, trainer in pairs)


def module_and_batches(num_batches: int) -> tuple[Any, DataLoader[Batch]]:
    """A small decoder, and batches of random ids."""
    torch.manual_seed(0)
    module = zoo.modules.DecoderModule(
        backbone=zoo.decoders.Llama(**SIZES), optimizer=functools.partial(torch.optim.AdamW, lr=1e-3)
    )
    module.build()
    rows = [torch.randint(0, SIZES["vocab_size"], (TOKENS,)) for _ in range(ROWS * num_batches)]
    return module, DataLoader([{"input_ids": ids, "labels": ids} for ids in rows], batch_size=ROWS)


def bare_loop(num_steps: int) -> Callable[[], None]:
    """One training step without a Trainer."""
    module, batches = module_and_batches(num_steps)
    optimizer = module.optimizer(optimization.parameter_groups(module))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: WarmupCosine().factor((step + 1) / num_steps)
    )
    batch_after_batch: Iterator[Batch] = iter(batches)

    def step() -> None:
        batch = next(batch_after_batch)
        module.head().loss(module.hidden_states(batch), batch).mean.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    return step


def compare(num_turns: int, num_steps: int, profiler: cProfile.Profile | None) -> TakeTurns:
    """Times of both."""
    length = (num_turns + 2) * num_steps
    turns = TakeTurns(bare_loop(length), num_steps)
    module, batches = module_and_batches(length)
    with tempfile.TemporaryDirectory() as folder:
        run = defaults.trainer_defaults("benchmark")
        run["logger"] = TensorBoardLogger(folder)
        run["callbacks"] = [turns, *run["callbacks"]]
        trainer = L.Trainer(
            **run,
            accelerator="cpu",
            devices=1,
            max_steps=length,
            gradient_clip_val=1.0,
            limit_val_batches=0,
        )
        if profiler:
            profiler.enable()
        trainer.fit(module, batches)
        if profiler:
            profiler.disable()
    return turns


def main() -> None:
    """Takes turns and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--steps", type=int, default=10, help="of each turn")
    parser.add_argument("--profile", action="store_true", help="print what takes the Trainer's time")
    choices = parser.parse_args()
    defaults.quiet()
    warnings.filterwarnings("ignore", ".*limit_val_batches.*|.*no `val_dataloader`.*")
    torch.set_num_threads(1)
    os.environ |= {"FORCE_COLOR": "1", "TERM": "xterm"}  # the bar is drawn, whoever reads it
    profiler = cProfile.Profile() if choices.profile else None
    turns = compare(choices.turns, choices.steps, profiler)
    if profiler:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
        pstats.Stats(profiler).sort_stats("cumtime").print_stats(60)
    ours, bare, ratio = turns.median("trainer"), turns.median("bare"), turns.ratio(turns.cpu)
    print(f"Trainer {ours:.2f} ms a step, bare loop {bare:.2f} ms a step: {100 * (1 / ratio - 1):.1f} % more")
    summary = {
        "benchmark": Path(__file__).stem,
        "trainer_ms": round(ours, 2),
        "bare_ms": round(bare, 2),
        "ratio": round(ratio, 3),
        "wall_ratio": round(turns.ratio(turns.wall), 3),
        "turns": choices.turns,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "lightning": L.__version__},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
