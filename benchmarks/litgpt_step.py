"""One pretraining step of a small Llama: by Trainer here, by LitGPT's own pretraining there.

Both take rows of the same shape, the same sizes, precision, fused AdamW and clipping, and log as often, once
compiled (LitGPT compiles unless told otherwise) and once not. `litgpt.pretrain.setup` runs as it is, in a
process of its own and by a Python of its own, as it wants an older huggingface-hub. The two take turns, a few
steps each while the other waits; figures are medians over the turns, loops and logging included. LitGPT reads
each row's last label from one token more, so it has one label more a row. Processors' time stands beside that
on the wall; with OMP_NUM_THREADS=1 it hardly heeds what else runs. The last line is JSON; a ratio above 1
says that the zoo is faster.

    python benchmarks/litgpt_step.py --litgpt-python PATH [--turns 12] [--steps 4]
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

import zoo
from zoo.cli import defaults

PEER = Path(__file__).parent / "peers" / "litgpt_pretraining.py"
HOW = "python -m venv litgpt && litgpt/bin/python -m pip install litgpt tensorboard torchmetrics"
LOG_EVERY = 10
CLIP = 1.0
ADAMW = {"lr": 1e-3, "betas": [0.9, 0.95], "weight_decay": 0.1}

SMALL = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
LARGER = {
    "vocab_size": 32000,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
SHAPES: dict[str, tuple[dict[str, Any], int]] = {"4x256": (SMALL, 8), "8x512": (LARGER, 4)}
"""Sizes, and rows of a step."""
PRECISIONS = ("bf16-mixed", "32-true")
WAYS = ("compiled", "uncompiled")


class LitGPT:
    """Its pretraining in a process of its own, which takes a turn when it is told to."""

    def __init__(self, python: str, described: dict[str, Any], compiles: bool) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._said = Path(self._folder.name, "said")
        given = [python, str(PEER), json.dumps({**described, "folder": f"{self._folder.name}/out"})]
        settings = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "CUDA_VISIBLE_DEVICES": ""}
        switch = {} if compiles else {"TORCH_COMPILE_DISABLE": "1"}
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, bufsize=1,
                cwd=self._folder.name, env={**os.environ, **settings, **switch},
            )  # fmt: skip
        self.num_weights = self._answer()["weights"]

    def take_turn(self, steps: int) -> dict[str, float]:
        """Seconds of a turn: on the wall, and of processors."""
        assert self._process.stdin
        print(steps, file=self._process.stdin)
        taken: dict[str, float] = self._answer()
        return taken

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"LitGPT ended:\n{self._said.read_text()}")
        return json.loads(line)

    def close(self) -> None:
        """Ends its training."""
        self._process.communicate()
        self._folder.cleanup()


def now() -> dict[str, float]:
    """The time on the wall, and what processors have spent on this process."""
    return {"wall": time.perf_counter(), "cpu": time.process_time()}


class TakeTurns(Callback):
    """After every few steps of the Trainer, lets the peer take as many."""

    def __init__(self, peer: LitGPT, steps: int) -> None:
        self.peer, self.steps = peer, steps
        self.seconds: dict[str, list[dict[str, float]]] = {"zoo": [], "litgpt": []}
        self._begin = now()

    def on_train_start(self, *arguments: Any) -> None:
        """The first turn begins."""
        self._begin = now()

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Counts the Trainer's time since its turn began, then hands over."""
        if trainer.global_step % self.steps:
            return
        self.seconds["zoo"].append({clock: end - self._begin[clock] for clock, end in now().items()})
        self.seconds["litgpt"].append(self.peer.take_turn(self.steps))
        self._begin = now()

    def median(self, side: str, clock: str) -> float:
        """Milliseconds a step; the first turn, in which both compile, is left out."""
        return 1e3 * statistics.median(turn[clock] for turn in self.seconds[side][1:]) / self.steps

    def figures(self) -> dict[str, float]:
        """Medians of either side, and how much faster the zoo is by each clock."""
        found = {}
        for clock, mark in (("wall", ""), ("cpu", "cpu_")):
            zoo, litgpt = self.median("zoo", clock), self.median("litgpt", clock)
            found |= {f"zoo_{mark}ms": round(zoo, 1), f"litgpt_{mark}ms": round(litgpt, 1)}
            found[f"{mark}ratio"] = round(litgpt / zoo, 3)
        return found


def rows(sizes: dict[str, Any], batch_size: int, length: int) -> DataLoader[Any]:
    """Batches of ids that mean nothing."""
    batches = torch.randint(sizes["vocab_size"], (16, batch_size, sizes["max_position_embeddings"]))
    steps = [{"input_ids": ids, "labels": ids} for ids in batches]
    return DataLoader([steps[step % len(steps)] for step in range(length)], batch_size=None)


def train(
    module: zoo.modules.DecoderModule, data: DataLoader[Any], precision: Any, turns: Callback, folder: str
) -> None:
    """The zoo's side: Trainer, with all that a run of ours has by default."""
    run = defaults.trainer_defaults("benchmark")
    run["logger"] = L.pytorch.loggers.TensorBoardLogger(folder)
    run["callbacks"] = [*run["callbacks"], turns]
    run["log_every_n_steps"] = LOG_EVERY
    trainer = L.Trainer(
        **run,
        accelerator="cpu",
        devices=1,
        precision=precision,
        gradient_clip_val=CLIP,
        max_epochs=1,
        limit_val_batches=0,
    )
    trainer.fit(module, train_dataloaders=data)


def compare(
    python: str, shape: str, precision: str, compiles: bool, num_turns: int, num_steps: int
) -> dict[str, float]:
    """Milliseconds a step on either side."""
    sizes, batch_size = SHAPES[shape]
    length = (num_turns + 1) * num_steps
    torch.manual_seed(0)
    module = zoo.modules.DecoderModule(
        zoo.decoders.Llama(**sizes),
        optimizer={"class_path": "torch.optim.AdamW", "init_args": {**ADAMW, "fused": True}},
        compile=compiles,
    )
    module.build()
    described = {
        **sizes,
        "batch_size": batch_size,
        "precision": precision,
        "length": length + 1,
        "log_interval": LOG_EVERY,
        "gradient_clip_val": CLIP,
        "optimizer": ADAMW,
    }
    peer = LitGPT(python, described, compiles)
    num_weights = sum(parameter.numel() for parameter in module.parameters())
    assert peer.num_weights == num_weights, (peer.num_weights, num_weights)
    turns = TakeTurns(peer, num_steps)
    with tempfile.TemporaryDirectory() as folder:
        train(module, rows(sizes, batch_size, length), precision, turns, folder)
    peer.close()
    return turns.figures()


def is_there(python: str | None) -> bool:
    """Whether this Python imports LitGPT."""
    command = [python or "", "-c", "import litgpt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def main() -> None:
    """Runs every shape in every precision, compiled and not, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--litgpt-python", default=os.environ.get("LITGPT_PYTHON"), help="or LITGPT_PYTHON")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4, help="of each turn")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    choices = parser.parse_args()
    summary: dict[str, Any] = {"benchmark": Path(__file__).stem}
    if not is_there(choices.litgpt_python):
        print(f"LitGPT needs a Python of its own, named by --litgpt-python or LITGPT_PYTHON: {HOW}")
        print(json.dumps({**summary, "skipped": "no Python with LitGPT"}))
        return
    defaults.quiet()
    warnings.filterwarnings("ignore", ".*but have no `val_dataloader`.*")
    figures: dict[str, dict[str, float]] = {}
    for shape, precision, way in itertools.product(choices.shapes, choices.precisions, choices.ways):
        case = f"{shape} {precision} {way}"
        figures[case] = compare(
            choices.litgpt_python, shape, precision, way == "compiled", choices.turns, choices.steps
        )
        print(f"{case}: {figures[case]}", flush=True)
    summary |= {
        "cases": figures,
        "ratio": min(each["ratio"] for each in figures.values()),
        "turns": choices.turns,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "lightning": L.__version__},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
