"""However a model is spread over processes, it learns what it would learn on one."""

import functools
import json
import os
import pickle
import re
import shutil
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
from zoo.errors import CheckpointError
from zoo.heads.base import Batch
from zoo.hub import sharded
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule
from zoo.training import files as checkpoints
from zoo.training.strategies import ShardedStrategy

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:The checkpoint is of a run on 2 processes, this one on 1"),
]

NUM_STEPS = 3
SHAPES = {
    "Llama": "decoder",
    "GPT2": "decoder",
    "GPTNeoX": "decoder",
    "Olmo2": "decoder",
    "Qwen3": "decoder",
    "Mixtral": "decoder",
    "Qwen3Moe": "decoder",
    "Bert": "encoder",
    "T5": "encoder_decoder",
    "Transformer": "encoder_decoder",
}
"""Families, and the shapes of their modules."""


def module(family: str, compile: bool = False, **sizes: Any) -> ZooModule:
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
        compile=compile,
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


def learnt(
    made: ZooModule,
    folder: Path,
    strategy: Any = "auto",
    *,
    epochs: int = 1,
    resumed: str | None = None,
    saved: Path | None = None,
) -> dict[str, Any]:
    """What a run finds at its start, sees on its way, and has at its end."""
    record, num_processes = Record(), int(os.environ.get("WORLD_SIZE", 1))
    trainer = L.Trainer(
        accelerator="cpu", devices=num_processes, strategy=strategy, max_epochs=epochs, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, callbacks=[record], use_distributed_sampler=False, gradient_clip_val=0.05,
        limit_val_batches=1 if resumed else 0,
    )  # fmt: skip
    measured = trainer.validate(made, Rows(), ckpt_path=resumed, verbose=False) if resumed else []
    torch.manual_seed(0)
    trainer.fit(made, Rows(), ckpt_path=resumed)
    weights = {name: whole(part) for name, part in made.named_parameters()}
    if saved is not None:
        trainer.save_checkpoint(saved)
    return {"gradients": record.gradients, "weights": weights, "measured": measured}


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

    val_dataloader = train_dataloader


STRATEGIES: dict[str, Any] = {
    "ddp": lambda: "ddp",
    "sharded": ShardedStrategy,
    "tensor": lambda: ShardedStrategy(tensor_parallel_size=int(os.environ["WORLD_SIZE"])),
    "both": lambda: ShardedStrategy(tensor_parallel_size=2),
}


Run = tuple[str, str, dict[str, Any]]
"""A family, a strategy, and sizes other than the family's tiny ones."""

TIED = {"tie_word_embeddings": True}
ALONE = {"output_router_logits": False}
"""How evenly experts are used is asked of each process's tokens alone."""


def on_processes(number: int, folder: Path, runs: list[Run], resumed: Path | None = None) -> None:
    """Has so many processes run each family with each strategy, and leave in a folder what they learnt."""
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, __file__, str(folder), json.dumps(runs), str(resumed or "")],
        capture_output=True, text=True, timeout=600, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def assert_learnt_alike(number: int, folder: Path, runs: list[Run], epochs: int = 1) -> None:
    for index, run in enumerate(runs):
        family, _, sizes = run
        expected = learnt(module(family, **{**sizes, "compile": False}), folder, epochs=epochs)
        for rank in range(number):
            found = torch.load(folder / f"{index}-{rank}.pt")
            expected["measured"] = found["measured"]
            assert len(found["gradients"]) == NUM_STEPS
            assert found["weights"].keys() == expected["weights"].keys()
            expected["gradients"] = expected["gradients"][-NUM_STEPS:]
            assert_close(found, expected, rtol=1e-4, atol=1e-6, msg=lambda text, run=run: f"{run}: {text}")


TWO: list[Run] = [
    ("Llama", "ddp", {}),
    ("Llama", "sharded", TIED),
    ("Llama", "tensor", {}),
    ("Qwen3", "tensor", {}),
    ("GPTNeoX", "tensor", {}),
    ("Olmo2", "tensor", {}),
    ("Bert", "sharded", {}),
    ("T5", "tensor", {}),
    ("Mixtral", "sharded", ALONE),
    ("Qwen3Moe", "tensor", {}),
]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes learnt, and their checkpoints."""
    folder = tmp_path_factory.mktemp("two")
    on_processes(2, folder, TWO)
    return folder


def test_two_processes_learn_what_one_does(two: Path) -> None:
    assert_learnt_alike(2, two, TWO)


@pytest.mark.slow
def test_four_processes_learn_what_one_does(tmp_path: Path) -> None:
    uneven = {"vocab_size": 97, "num_key_value_heads": 4}
    families = [("Llama", uneven), ("Qwen3", uneven), ("Bert", {}), ("T5", {}), ("Transformer", {})]
    families += [("GPTNeoX", {}), ("Olmo2", {"num_key_value_heads": 4})]
    families += [(family, {**ALONE, "num_key_value_heads": 4}) for family in ("Mixtral", "Qwen3Moe")]
    runs = [(family, strategy, sizes) for family, sizes in families for strategy in STRATEGIES]
    runs += [("Llama", "both", TIED), ("GPT2", "sharded", {})]
    runs += [
        ("Mixtral", "sharded", {**ALONE, "num_local_experts": 3}),
        ("Mixtral", "both", {**ALONE, "num_local_experts": 2}),
    ]
    on_processes(4, tmp_path, runs)
    assert_learnt_alike(4, tmp_path, runs)


# Checkpoints


@pytest.mark.parametrize("index", range(len(TWO)))
def test_a_checkpoint_of_several_processes_is_loaded_as_any_other(two: Path, index: int) -> None:
    loaded = zoo.load(two / f"{index}.ckpt")
    assert (two / f"{index}.ckpt").is_dir() == (TWO[index][1] != "ddp")
    expected = torch.load(two / f"{index}-0.pt")["weights"]
    found = dict(loaded.named_parameters())
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert_close(found[name], weight, rtol=0, atol=0)


def test_a_checkpoint_of_several_processes_is_exported(two: Path, tmp_path: Path, command: Any) -> None:
    outcome = command("export", str(two / "1.ckpt"), str(tmp_path / "exported"))
    assert (outcome.code, outcome.err) == (0, "")
    ids = rows(0)["input_ids"]
    ours, again = zoo.load(two / "1.ckpt"), zoo.load(tmp_path / "exported")
    assert_close(again(ids).logits, ours(ids).logits, rtol=0, atol=0)


@pytest.mark.parametrize("index", [index for index, run in enumerate(TWO) if run[1] != "ddp"])
def test_one_process_goes_on_from_a_checkpoint_of_parts(two: Path, tmp_path: Path, index: int) -> None:
    family, _, sizes = TWO[index]
    expected = learnt(module(family, **sizes), tmp_path, epochs=2)
    found = learnt(module(family, **sizes), tmp_path, epochs=2, resumed=str(two / f"{index}.ckpt"))
    assert_close(found["gradients"], expected["gradients"][-NUM_STEPS:], rtol=1e-4, atol=1e-6)
    assert_close(found["weights"], expected["weights"], rtol=1e-4, atol=1e-6)
    loaded = zoo.load(two / f"{index}.ckpt")
    batch = rows(0)
    loss = loaded.head().loss(loaded.hidden_states(batch), batch).mean
    assert found["measured"][0]["val/loss"] == pytest.approx(loss.item(), rel=1e-4)


def test_an_evaluation_of_a_checkpoint_of_parts_leaves_the_optimizer_unread(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = next(index for index, run in enumerate(TWO) if run[1] == "sharded")
    family, _, sizes = TWO[index]
    read: list[str] = []
    part = sharded._part
    monkeypatch.setattr(sharded, "_part", lambda path, entries: read.extend(entries) or part(path, entries))
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, limit_val_batches=1,
    )  # fmt: skip
    trainer.validate(module(family, **sizes), Rows(), ckpt_path=str(two / f"{index}.ckpt"), verbose=False)
    assert {name.partition(".")[0] for name in read} == {"state_dict"}
    states = checkpoints.AtomicCheckpointIO().load_checkpoint(two / f"{index}.ckpt")["optimizer_states"]
    assert "optimizer_0" not in {name.partition(".")[0] for name in read}
    assert len(states) == len(states[:]) == 1
    assert {name.partition(".")[0] for name in read} == {"state_dict", "optimizer_0"}


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process wrote."""
    folder = tmp_path_factory.mktemp("one")
    learnt(module("Llama", **TIED), folder, saved=folder / "one.ckpt")
    return folder / "one.ckpt"


def assert_goes_on_from(one_file: Path, folder: Path, number: int, strategies: list[str]) -> None:
    runs: list[Run] = [("Llama", strategy, TIED) for strategy in strategies]
    on_processes(number, folder, runs, resumed=one_file)
    assert_learnt_alike(number, folder, runs, epochs=2)
    alone = learnt(module("Llama", **TIED), folder, epochs=2, resumed=str(one_file))
    for index in range(len(runs)):
        found = torch.load(folder / f"{index}-0.pt")["measured"]
        assert found == [pytest.approx(measured, rel=1e-4) for measured in alone["measured"]]


def test_processes_that_share_a_model_go_on_from_one_file(one_file: Path, tmp_path: Path) -> None:
    assert_goes_on_from(one_file, tmp_path, 2, ["sharded", "tensor", "ddp"])


@pytest.mark.slow
def test_four_processes_go_on_from_one_file(one_file: Path, tmp_path: Path) -> None:
    assert_goes_on_from(one_file, tmp_path, 4, ["sharded", "both"])


@pytest.mark.slow
def test_compiled_blocks_that_are_spread_learn_the_same_and_go_on(one_file: Path, tmp_path: Path) -> None:
    runs: list[Run] = [("Llama", strategy, {**TIED, "compile": True}) for strategy in STRATEGIES]
    on_processes(2, tmp_path, runs[:3], resumed=one_file)
    assert_learnt_alike(2, tmp_path, runs[:3], epochs=2)


def test_a_file_that_names_no_parameters_is_refused(one_file: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(one_file, weights_only=True)
    del checkpoint["resume"]["optimized"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    strategy = ShardedStrategy()
    strategy.model = torch.nn.Linear(1, 1)
    strategy.optimizers = [torch.optim.AdamW(strategy.model.parameters())]
    with pytest.raises(CheckpointError) as caught:
        strategy.load_checkpoint(tmp_path / "old.ckpt")
    assert str(caught.value) == (
        f"{tmp_path / 'old.ckpt'} does not name the parameters whose optimizer's state it holds\n"
        "  go on with the strategy that wrote it, or start from what zoo export makes of it"
    )


def test_float16_beside_a_shared_model_is_refused(command: Any, workplace: Path) -> None:
    strategy = ("--trainer.strategy", f"{{class_path: {ShardedStrategy.__module__}.ShardedStrategy}}")
    outcome = command("fit", "--config", "recipe.yaml", "--trainer.precision", "16-mixed", *strategy)
    told, at, source = outcome.err.splitlines()
    assert told.startswith("zoo: the Trainer refuses: The `ModelParallelStrategy` does not support")
    assert (at, source) == ("  at    trainer.precision", "  in    the command line: --trainer.precision")


@pytest.fixture
def copied(two: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two / "1.ckpt", tmp_path / "copied.ckpt"))


class Payload:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


@pytest.mark.parametrize("name", [".metadata", "meta.pt"])
def test_a_checkpoint_of_parts_that_would_run_code_is_refused(copied: Path, name: str) -> None:
    (copied / name).write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(CheckpointError) as caught:
        zoo.load(copied)
    assert caught.value.message == f"{copied} holds more than tensors and plain values, so it is not read"


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "meta.pt"])
def test_a_checkpoint_of_parts_that_is_cut_off_is_refused(copied: Path, name: str) -> None:
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=re.escape(str(copied))):
        zoo.load(copied)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "strategy"), [(1, "sharded"), (2, "tensor"), (4, "both")])
def test_a_run_goes_on_with_another_number_of_processes(
    two: Path, tmp_path: Path, number: int, strategy: str
) -> None:
    runs: list[Run] = [("Llama", strategy, TIED)]
    on_processes(number, tmp_path, runs, resumed=two / "1.ckpt")
    assert_learnt_alike(number, tmp_path, runs, epochs=2)


def of_this_process(folder: Path, runs: list[Run], resumed: str) -> None:
    for index, (family, strategy, sizes) in enumerate(runs):
        more = {"epochs": 2, "resumed": resumed} if resumed else {"saved": folder / f"{index}.ckpt"}
        found = learnt(module(family, **sizes), folder, STRATEGIES[strategy](), **more)
        torch.save(found, folder / f"{index}-{os.environ['RANK']}.pt")


if __name__ == "__main__":
    of_this_process(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3])
