"""What a family learns on one process, or on several, of which this module, run, is one."""

import functools
import importlib
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from zoo.heads.base import Batch
from zoo.schedules import Constant
from zoo.testing.families import Family
from zoo.training.strategies import ShardedStrategy

NUM_STEPS, NUM_PROCESSES = 2, 2
STRATEGIES: dict[str, Any] = {"ddp": lambda: "ddp", "sharded": ShardedStrategy}


class _Rows(L.LightningDataModule):
    """Each process takes its share of every batch, one alone all of them in turn.

    Shares carry different numbers of labels.
    """

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family

    def train_dataloader(self) -> "DataLoader[Batch]":
        places: Any = getattr(self.trainer, "distributed_sampler_kwargs", None) or {}
        batches = [self.family.batch((12, 5, 8, 3), (9, 4, 7, 2), seed) for seed in range(NUM_STEPS)]
        shares = [
            {name: part[share::NUM_PROCESSES] for name, part in batch.items()}
            for batch in batches
            for share in range(NUM_PROCESSES)
        ]
        mine = shares[places.get("rank", 0) :: places.get("num_replicas", 1)]
        return DataLoader(mine, batch_size=None)  # type: ignore[arg-type]


def learnt(family: Family, folder: Path, strategy: Any = "auto") -> dict[str, Tensor]:
    """The weights after some steps, whole, on as many processes as were started.

    One process takes the shares of a step one after another: what a backbone adds to a loss, such as how
    unevenly experts are used, is that of each share, and of all at once would be another number.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", 1))
    logging.getLogger("lightning").setLevel(logging.ERROR)
    optimizer = functools.partial(torch.optim.AdamW, lr=0.01, eps=1e-3)
    module = family.unbuilt(optimizer=optimizer, lr_schedule=Constant())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on loaders and loggers
        trainer = L.Trainer(
            accelerator="cpu", devices=num_processes, strategy=strategy, max_epochs=1,
            accumulate_grad_batches=NUM_PROCESSES // num_processes,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=folder, use_distributed_sampler=False, limit_val_batches=0,
        )  # fmt: skip
        torch.manual_seed(0)
        trainer.fit(module, _Rows(family))
    return {name: _whole(part) for name, part in module.named_parameters()}


def _whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def main(path: str, folder: str) -> None:
    """Learns with each strategy, and leaves the weights in the folder."""
    torch.set_num_threads(1)
    module, _, name = path.partition(":")
    kind: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    family = Family(kind)
    for strategy, make in STRATEGIES.items():
        weights = learnt(family, Path(folder), make())
        torch.save(weights, Path(folder, f"{strategy}-{os.environ['RANK']}.pt"))


if __name__ == "__main__":
    main(*sys.argv[1:])
