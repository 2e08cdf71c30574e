"""However a model is spread over processes, it learns what it would learn on one."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

import zoo
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule
from zoo.training.strategies import ShardedStrategy

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]

NUM_STEPS = 3
SHAPES = {
    "Llama": "decoder",
    "GPT2": "decoder",
    "Bert": "encoder",
    "T5": "encoder_decoder",
    "Transformer": "encoder_decoder",
}
"""Families, and the shapes of their modules."""


def module(family: str, **sizes: Any) -> ZooModule:
    shape = SHAPES[family]
    spec = getattr(getattr(zoo, f"{shape}s"), family)
    drops = {name: 0.0 for name in spec.__dataclass_fields__ if "dropout" in name}
    kind = getattr(zoo.modules, "".join(word.title() for word in shape.split("_")) + "Module")
    head = {"head": zoo.heads.MaskedLM()} if shape == "encoder" else {}
    made: ZooModule = kind(
        spec(**{**spec.tiny, **drops, **sizes}),
        **head,
        optimizer=functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1, eps=1e-3),
        lr_schedule=zoo.schedules.Constant(),
    )
    return made


def rows(step: int) -> Batch:
    """Four rows of different lengths, of which unequal shares carry a label."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(3, 96, (4, 11), generator=generator)
    mask = (torch.arange(11) < torch.tensor([11, 4, 8, 6])[:, None]).long()
    is_labelled = (torch.rand(4, 11, generator=generator) < torch.tensor([[0.9], [0.5], [0.2], [0.6]])) & (
        mask == 1
    )
    labels = ids.where(is_labelled, IGNORED)
    return {"input_ids": ids.where(mask == 1, 0), "attention_mask": mask, "labels": labels}


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


class Record(Callback):
    """Keeps each step's gradients, as they are before they are clipped."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, Tensor]] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        named = pl_module.named_parameters()
        self.gradients.append({name: whole(part.grad) for name, part in named if part.grad is not None})


def learnt(made: ZooModule, folder: Path, strategy: Any = "auto", **choices: Any) -> dict[str, Any]:
    """What a run finds at its start, sees on its way, and has at its end."""
    record, num_processes = Record(), int(os.environ.get("WORLD_SIZE", 1))
    trainer = L.Trainer(
        accelerator="cpu", devices=num_processes, strategy=strategy, max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, callbacks=[record], use_distributed_sampler=False, gradient_clip_val=0.05,
        **choices,
    )  # fmt: skip
    torch.manual_seed(0)
    trainer.fit(made, Rows())
    weights = {name: whole(part) for name, part in made.named_parameters()}
    return {"gradients": record.gradients, "weights": weights}


class Rows(L.LightningDataModule):
    """Each process that sees data of its own takes its share of every batch."""

    def train_dataloader(self) -> Any:
        places: Any = getattr(self.trainer, "distributed_sampler_kwargs", None) or {
            "num_replicas": 1,
            "rank": 0,
        }
        mine = slice(places["rank"], None, places["num_replicas"])
        batches = [{name: part[mine] for name, part in rows(step).items()} for step in range(NUM_STEPS)]
        return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


STRATEGIES: dict[str, Any] = {
    "ddp": lambda: "ddp",
    "sharded": ShardedStrategy,
    "tensor": lambda: ShardedStrategy(tensor_parallel_size=int(os.environ["WORLD_SIZE"])),
    "both": lambda: ShardedStrategy(tensor_parallel_size=2),
}


def on_processes(number: int, folder: Path, runs: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Has so many processes run each family with each strategy, and leave in a folder what they learnt."""
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, __file__, str(folder), json.dumps(runs)],
        capture_output=True, text=True, timeout=600, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def assert_learns_alike(number: int, folder: Path, runs: list[tuple[str, str, dict[str, Any]]]) -> None:
    on_processes(number, folder, runs)
    for index, (family, _, sizes) in enumerate(runs):
        expected = learnt(module(family, **sizes), folder)
        for rank in range(number):
            found = torch.load(folder / f"{index}-{rank}.pt")
            assert len(found["gradients"]) == NUM_STEPS
            assert found["weights"].keys() == expected["weights"].keys()
            assert_close(
                found, expected, rtol=1e-4, atol=1e-6, msg=lambda text, run=runs[index]: f"{run}: {text}"
            )


TIED = {"tie_word_embeddings": True}


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    runs = [
        ("Llama", "ddp", {}),
        ("Llama", "sharded", TIED),
        ("Llama", "tensor", {}),
        ("Bert", "sharded", {}),
    ]
    assert_learns_alike(2, tmp_path, [*runs, ("T5", "tensor", {})])


@pytest.mark.slow
def test_four_processes_learn_what_one_does(tmp_path: Path) -> None:
    uneven = {"vocab_size": 97, "num_key_value_heads": 4}
    families = [("Llama", uneven), ("Bert", {}), ("T5", {}), ("Transformer", {})]
    runs = [(family, strategy, sizes) for family, sizes in families for strategy in STRATEGIES]
    assert_learns_alike(4, tmp_path, [*runs, ("Llama", "both", TIED), ("GPT2", "sharded", {})])


def of_this_process(folder: Path, runs: list[tuple[str, str, dict[str, Any]]]) -> None:
    for index, (family, strategy, sizes) in enumerate(runs):
        found = learnt(module(family, **sizes), folder, STRATEGIES[strategy]())
        torch.save(found, folder / f"{index}-{os.environ['RANK']}.pt")


if __name__ == "__main__":
    of_this_process(Path(sys.argv[1]), json.loads(sys.argv[2]))
