"""The strategy that spreads a model: sharded, divided by tensor parallelism, or both."""

import os
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.constants import default_pg_timeout
from torch.optim import Optimizer

from zoo.errors import CheckpointError, RecipeError
from zoo.hub.loading import read_checkpoint
from zoo.training.files import previous_of

_BY_NAME = StateDictOptions(flatten_optimizer_state_dict=True)


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2, tensor parallelism, or both, for every family.

    A checkpoint is a folder to which each process writes its part; any number of processes goes on from it.

    Args:
        tensor_parallel_size: Processes that divide a layer's products among them; they should stand in one
            machine. The others see different data, and share weights, gradients and optimizer state.
        process_group_backend: By default nccl on GPUs, gloo elsewhere.
        timeout: How long a process waits for the others.
    """

    def __init__(
        self,
        tensor_parallel_size: int = 1,
        process_group_backend: Literal["nccl", "gloo"] | None = None,
        timeout: timedelta = default_pg_timeout,
    ) -> None:
        super().__init__(
            tensor_parallel_size=tensor_parallel_size,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )
        self.tensor_parallel_size = tensor_parallel_size

    def setup_environment(self) -> None:
        """Starts the processes, and shares them out.

        Raises:
            RecipeError: Their number is no multiple of `tensor_parallel_size`.
        """
        num_processes = self.num_nodes * self.num_processes
        if num_processes % self.tensor_parallel_size:
            raise RecipeError(
                f"`tensor_parallel_size` must divide the {num_processes} processes, "
                f"got {self.tensor_parallel_size}",
                at="trainer.strategy.init_args.tensor_parallel_size",
            )
        # Lightning's own "auto" takes the number of machines.
        self._data_parallel_size = num_processes // self.tensor_parallel_size
        super().setup_environment()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Each parameter's state by its name: how the optimizer groups them differs between meshes."""
        assert self.model is not None
        whole = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return get_optimizer_state_dict(self.model, whole, options=replace(_BY_NAME, cpu_offload=True))

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        """Has each process write its part; until all are on disk, the checkpoint before keeps its name."""
        path = Path(self.broadcast(filepath))
        part = path.with_name(f"{path.name}.part")
        if self.is_global_zero:
            _remove(part)
        self.barrier()
        super().save_checkpoint(checkpoint, part, storage_options)
        self.barrier()
        if self.is_global_zero:
            if path.exists():
                _remove(previous_of(path))
                os.replace(path, previous_of(path))
            os.replace(part, path)
        self.barrier()

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Has each process read its part, whichever processes wrote it.

        Raises:
            CheckpointError: It is not there, is cut off, or holds more than tensors and plain values; or it
                is one file, and training is to go on from it.
        """
        path = Path(self.broadcast(checkpoint_path))
        checkpoint = read_checkpoint(path)
        assert self.model is not None
        if path.is_file() and self.optimizers:
            raise CheckpointError(
                f"{path} was written by processes of which each had the whole model, "
                "and this run's strategy goes on from a folder with a part of each",
                hint="go on with the strategy that wrote it, or start from what zoo export makes of it",
            )
        if path.is_file():
            return super().load_checkpoint(path, weights_only=True)
        weights = {"state_dict": get_model_state_dict(self.model)}
        state_dict_loader.load(weights, checkpoint_id=path)
        set_model_state_dict(self.model, weights["state_dict"])
        for index, optimizer in enumerate(self.optimizers):
            key = f"optimizer_{index}"
            state = {key: get_optimizer_state_dict(self.model, optimizer, options=_BY_NAME)}
            state_dict_loader.load(state, checkpoint_id=path)
            set_optimizer_state_dict(self.model, optimizer, state[key], options=_BY_NAME)
            for schedule in checkpoint.get("lr_schedulers", []):
                _fit(schedule, len(optimizer.param_groups))
        return checkpoint

    def remove_checkpoint(self, filepath: str | Path) -> None:
        """Removes a checkpoint and the one before it."""
        if self.is_global_zero:
            _remove(Path(filepath))
            _remove(previous_of(Path(filepath)))


def _fit(schedule: dict[str, Any], num_groups: int) -> None:
    """Fits a schedule's state to an optimizer that groups the same parameters otherwise."""
    for name in ("base_lrs", "_last_lr", "lr_lambdas"):
        values = schedule.get(name, [])
        if values and len(values) != num_groups:
            if any(value != values[0] for value in values):
                raise CheckpointError(
                    "the checkpoint's groups of parameters have learning rates of their own, "
                    "and this run groups parameters otherwise",
                    hint="go on with the tensor_parallel_size that it was written with",
                )
            schedule[name] = values[:1] * num_groups


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
