"""One training step of quickstart/decoder: by Trainer here, by a bare loop over transformers there.

Both start from the same weights and take the recipe's batches, precision, clipping, optimizer and schedule.
They take turns in one process, a few steps each; figures are medians over the turns, data loading and
Trainer's own work included. The last line is JSON; a ratio above 1 says that the zoo is faster.

    python benchmarks/quickstart.py [--turns 12] [--steps 4]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers
from lightning.pytorch.callbacks import Callback

import zoo.specs
from zoo import registry
from zoo.cli import defaults, recipes
from zoo.heads.base import Batch
from zoo.training import optimization

RECIPE = "quickstart/decoder"


class TakeTurns(Callback):
    """After every few steps of the Trainer, lets the peer take as many, and times both."""

    def __init__(self, peer: Callable[[], None], turns: int, steps: int) -> None:
        self.peer, self.turns, self.steps = peer, turns, steps
        self.milliseconds: dict[str, list[float]] = {"zoo": [], "transformers": []}
        self._clock = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Counts the Trainer's time since its turn began, then hands over."""
        if trainer.global_step % self.steps:
            return
        self._stop("zoo")
        self._clock = time.perf_counter()
        for _ in range(self.steps):
            self.peer()
        self._stop("transformers")
        self._clock = time.perf_counter()
        done = len(self.milliseconds["zoo"])
        print(f"turn {done} of {self.turns + 1}", end="\r" if done <= self.turns else "\n", flush=True)

    def _stop(self, name: str) -> None:
        self.milliseconds[name].append(1e3 * (time.perf_counter() - self._clock) / self.steps)

    def median(self, name: str) -> float:
        """Milliseconds a step, the first turn left out."""
        return statistics.median(self.milliseconds[name][1:])


def bare_loop(
    model: Any, batches: Iterator[Batch], optimizer: Any, schedule: Any, settings: dict[str, Any]
) -> Callable[[], None]:
    """One training step as a careful user of transformers writes it."""
    is_mixed = settings.get("precision") == "bf16-mixed"

    def step() -> None:
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            loss = model(input_ids=batch["input_ids"], labels=batch["labels"], use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["gradient_clip_val"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    return step


def endless(loader: Any) -> Iterator[Batch]:
    """Batches, over and over."""
    while True:
        yield from loader


def main() -> None:
    """Runs both and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4, help="of each turn")
    choices = parser.parse_args()
    defaults.quiet()
    warnings.filterwarnings("ignore", ".*limit_val_batches.*")

    values = recipes.read(registry.recipe_path(RECIPE)).values
    model, settings = values["model"]["init_args"], values["trainer"]
    optimizer = optimization.from_plain(model["optimizer"])
    schedule = zoo.specs.from_plain(model["lr_schedule"])
    module = zoo.modules.DecoderModule(
        backbone=zoo.specs.from_plain(model["backbone"]), optimizer=optimizer, lr_schedule=schedule
    )
    data = zoo.data.StandardLibrary(**values["data"]["init_args"])
    data.setup("fit")
    num_steps = (choices.turns + 1) * choices.steps
    torch.manual_seed(0)
    module.build()
    with tempfile.TemporaryDirectory() as folder:
        zoo.save(module, folder)
        peer = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").train()
        peer_optimizer = optimizer(optimization.parameter_groups(peer))
        peer_schedule = torch.optim.lr_scheduler.LambdaLR(
            peer_optimizer, lambda step: schedule.factor((step + 1) / num_steps)
        )
        step = bare_loop(peer, endless(data.train_dataloader()), peer_optimizer, peer_schedule, settings)
        turns = TakeTurns(step, choices.turns, choices.steps)
        run = defaults.trainer_defaults("benchmark")
        run["logger"] = L.pytorch.loggers.TensorBoardLogger(folder)
        run["callbacks"] = [*run["callbacks"], turns]
        trainer = L.Trainer(
            **run,
            accelerator="cpu",
            devices=1,
            precision=settings.get("precision"),
            gradient_clip_val=settings["gradient_clip_val"],
            max_steps=num_steps,
            limit_val_batches=0,
        )
        trainer.fit(module, datamodule=data)
    ours, theirs = turns.median("zoo"), turns.median("transformers")
    print(f"zoo {ours:.1f} ms a step, transformers {theirs:.1f} ms a step")
    figures = {
        "benchmark": Path(__file__).stem,
        "recipe": RECIPE,
        "zoo_ms": round(ours, 1),
        "transformers_ms": round(theirs, 1),
        "ratio": round(theirs / ours, 3),
        "turns": choices.turns,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
