"""Runs a tiny training, kills it, resumes it, and compares how it ends with one that was left alone.

As a script it reads a list of scenarios as JSON and prints, for each, how the lives of its run differ:

    echo '[{"kill": ["step", 3]}]' | python tests/resuming.py

Each life is a process of its own, ended by SIGKILL.
"""

import contextlib
import hashlib
import json
import logging
import os
import random
import signal
import socket
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.distributed.tensor import DTensor

import zoo
from zoo.callbacks import Checkpoint
from zoo.data.base import ZooData
from zoo.data.loading import Loader
from zoo.training import randomness
from zoo.training.files import newest
from zoo.training.strategies import ShardedStrategy


@dataclass
class Scenario:
    """What is trained, how, and where it is killed."""

    kill: list[Any] = field(default_factory=lambda: ["step", 3])
    """`step`, `batch`, `validation`, `saving` or `epoch`, and which one, from 1; then perhaps another.

    `asked at step` and so on sends SIGTERM, so that the run saves and ends by itself.
    """
    workers: int = 0
    precision: str = "32-true"
    processes: int = 1
    resumed_processes: int | None = None
    accumulate: int = 1
    val_check_interval: float = 1.0
    save_every: int | None = 1
    max_steps: int = -1
    limit: float = 1.0
    validates: bool = True
    is_mixture: bool = False
    is_sharded: bool = False
    """Whether several processes share the model, rather than each has it."""
    bad: list[int] = field(default_factory=list)
    """Rows that cannot be read, and are left out."""


class Rows:
    """Rows of ids, each time a little different."""

    def __init__(self, bad: list[int]) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 53

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index in self.bad:
            raise ValueError("a bad row")
        ids = torch.tensor([(index * 7 + place * 3) % 60 for place in range(8)])
        ids[random.randrange(8)] = int(np.random.randint(60))
        ids[torch.randint(8, ())] = 1
        return {"input_ids": ids, "labels": ids, "num_bytes": torch.tensor(8)}


class Data(ZooData):
    """Rows and their place in the order."""

    tasks = frozenset({"text-generation"})
    bad: list[int]

    def setup(self, stage: str) -> None:
        pass

    def train_dataloader(self) -> Loader:
        return self.loader(Rows(self.bad), None, is_training=True)

    def val_dataloader(self) -> Any:
        return self.loader(Rows(self.bad), None, is_training=False)


class Kill(Callback):
    """Ends the process as a scheduler does that has no mercy, or asks it to end."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind, self.number, self.count = kind.removeprefix("asked at "), number, 0
        self.signal = signal.SIGTERM if kind.startswith("asked") else signal.SIGKILL

    def _count(self, kind: str) -> None:
        self.count += kind == self.kind
        if self.count == self.number and kind == self.kind:
            os.kill(os.getpid(), self.signal)

    def on_train_batch_start(self, *_: Any) -> None:
        self._count("batch")

    def on_before_optimizer_step(self, *_: Any) -> None:
        self._count("step")

    def on_validation_batch_start(self, *_: Any) -> None:
        self._count("validation")

    def on_train_epoch_end(self, *_: Any) -> None:
        self._count("epoch")

    def on_save_checkpoint(self, *_: Any) -> None:
        self._count("saving")


class Notes(Callback):
    """What happened in a life, step by step, on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _note(self, trainer: L.Trainer, *what: Any) -> None:
        with (self.folder / f"notes-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(what) + "\n")

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        rows = hashlib.sha256(batch["input_ids"].numpy().tobytes()).hexdigest()[:8]
        loss = float(outputs["loss"]).hex()
        logged = trainer.fit_loop.epoch_loop._batches_that_stepped
        handed = getattr(trainer.train_dataloader, "handed", None)
        self._note(trainer, "step", trainer.current_epoch, trainer.global_step, logged, rows, loss, handed)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        logged = trainer.fit_loop.epoch_loop._batches_that_stepped
        found = sorted(
            (name, float(value).hex()) for name, value in trainer.callback_metrics.items() if "val" in name
        )
        self._note(trainer, "validation", trainer.current_epoch, trainer.global_step, logged, found)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._note(trainer, "epoch", trainer.current_epoch, trainer.global_step)


def live(scenario: Scenario, folder: Path, kill: list[Any], processes: int, resumes: bool) -> None:
    """One life of a run."""
    quiet()
    torch.set_num_threads(1)
    L.seed_everything(3, verbose=False)
    family = zoo.decoders.Llama
    sizes = {**family.tiny, "vocab_size": 64, "num_hidden_layers": 1, "attention_dropout": 0.2}
    heads: dict[str, Any] = {"head": zoo.heads.CausalLM()}
    if scenario.is_mixture:
        heads = {"heads": {"one": zoo.heads.CausalLM(), "two": zoo.heads.CausalLM()}}
    module = zoo.modules.DecoderModule(backbone=family(**sizes), **heads)
    on_bad_row: Any = "skip" if scenario.bad else "error"
    parts = [Data(0.1, "wordpiece", 64, size, 5, scenario.workers, on_bad_row) for size in (4, 3)]
    for part in parts:
        part.bad = scenario.bad
    data: Any = (
        zoo.data.Mixture(dict(zip(("one", "two"), parts, strict=True))) if scenario.is_mixture else parts[0]
    )
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=processes,
        strategy=ShardedStrategy() if scenario.is_sharded else "ddp" if processes > 1 else "auto",
        precision=scenario.precision,
        max_epochs=2 if scenario.max_steps == -1 else None,
        max_steps=scenario.max_steps,
        accumulate_grad_batches=scenario.accumulate,
        val_check_interval=scenario.val_check_interval,
        limit_train_batches=scenario.limit,
        limit_val_batches=3 if scenario.validates else 0,
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=2,
        callbacks=[Notes(folder), *([Kill(*kill)] if kill else []), Checkpoint(scenario.save_every)],
    )
    checkpoint = newest(folder) if resumes else None
    if checkpoint:
        for _ in range(7):  # a resumed process has drawn other numbers by now
            random.random(), np.random.rand(), torch.rand(())
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    (folder / f"end-{trainer.global_rank}.json").write_text(json.dumps(end_of(trainer, data)))


def end_of(trainer: L.Trainer, data: Any) -> dict[str, str]:
    """All that a run leaves, as hashes."""
    state = {
        "weights": trainer.lightning_module.state_dict(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        "random": randomness.capture(),
        "data": data.state_dict(),
        "bad rows": [sorted(part.bad_rows.met) for part in data.parts.values()],
        "steps": [trainer.global_step, trainer.current_epoch],
    }
    return {name: hashlib.sha256(repr(plain(value)).encode()).hexdigest() for name, value in state.items()}


def plain(value: Any) -> Any:
    """Tensors as their bytes."""
    if isinstance(value, DTensor):
        value = value.to_local()
    if isinstance(value, Tensor):
        return value.dtype, value.shape, value.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def quiet() -> None:
    """Leaves out what Lightning says about hardware."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("error")
    for harmless in (
        ".*many workers.*",
        ".*LeafSpec.*",
        ".*is not empty.*",
        ".*num_workers.*",
        ".*sync_dist.*",
    ):
        warnings.filterwarnings("ignore", harmless)
    warnings.filterwarnings("default", ".*not with the same bits.*")


def start(processes: int, *arguments: Any) -> list[int]:
    """How the processes of one life ended."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port), NODE_RANK="0")
            if processes > 1:
                os.environ.update(LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
            code = 1
            try:
                live(*arguments)
                code = 0
            except SystemExit as error:
                code = int(error.code or 0)
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        children.append(child)
    codes = []
    for _ in children:
        child, status = os.wait()
        codes.append(os.waitstatus_to_exitcode(status))
        if codes[-1]:  # the others would wait for it
            for other in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(other, signal.SIGKILL) if other != child else None
    return codes


def differences(scenario: Scenario) -> list[str]:
    """In what the resumed run ends differently from one that nobody killed."""
    with tempfile.TemporaryDirectory() as place:
        whole, killed = Path(place, "whole"), Path(place, "killed")
        for folder in (whole, killed):
            folder.mkdir()
        found = []
        if any(start(scenario.processes, scenario, whole, [], scenario.processes, False)):
            return ["the run that nobody kills fails"]
        kills = list(zip(scenario.kill[::2], scenario.kill[1::2], strict=True))
        for number, kill in enumerate(kills):
            codes = start(scenario.processes, scenario, killed, list(kill), scenario.processes, number > 0)
            if not {-signal.SIGKILL, 143} & set(codes):
                found.append(f"it was not killed by {kill}: {codes}")
        if any(start(scenario.processes, scenario, killed, [], scenario.processes, True)):
            return ["the resumed run fails"]
        for rank in range(scenario.processes):
            ends = [json.loads((folder / f"end-{rank}.json").read_text()) for folder in (whole, killed)]
            found += [f"{name} of rank {rank}" for name in ends[0] if ends[0][name] != ends[1][name]]
            notes = [(folder / f"notes-{rank}.jsonl").read_text().splitlines() for folder in (whole, killed)]
            found += [f"only when resumed: {note}" for note in sorted(set(notes[1]) - set(notes[0]))]
            found += [f"lost: {note}" for note in sorted(set(notes[0]) - set(notes[1]))]
        return found


def unlike(scenario: Scenario) -> list[str]:
    """What is wrong with the data of a run that goes on, within its epoch, on another number of processes."""
    assert scenario.resumed_processes is not None
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        lives = []
        for number, processes in enumerate((scenario.processes, scenario.resumed_processes)):
            kill = [] if number else scenario.kill
            codes = start(processes, scenario, folder, kill, processes, number > 0)
            if number and any(codes):
                return ["the resumed run fails"]
            found = [file.read_text().splitlines() for file in folder.glob("notes-*")]
            lives.append([json.loads(line) for lines in found for line in lines])
            for file in folder.glob("notes-*"):
                file.unlink()

    def rows(life: list[Any], epoch: int) -> list[int]:
        return [row for note in life if note[:2] == ["step", epoch] for row in note[6][2]]

    first, second = rows(lives[0], 0) + rows(lives[1], 0), rows(lives[1], 1)
    at_once = 4 * scenario.resumed_processes
    ends = [note[:2] for note in lives[1] if note[0] != "step"]
    expected = [[what, epoch] for epoch in (0, 1) for what in ("validation", "epoch")]
    checks = {
        "rows are repeated": len(set(first)) == len(first),
        "rows are dropped": len(Rows([])) - len(first) < at_once,
        "the next epoch is not whole": len(set(second)) == len(second) == len(Rows([])) // at_once * at_once,
        "an epoch does not end as it should": sorted(ends) == sorted(expected * scenario.resumed_processes),
    }
    return [told for told, is_right in checks.items() if not is_right]


def verdict(scenario: Scenario) -> list[str]:
    """What is wrong, if anything."""
    return differences(scenario) if scenario.resumed_processes is None else unlike(scenario)


if __name__ == "__main__":
    print(json.dumps([verdict(Scenario(**settings)) for settings in json.load(sys.stdin)]))
