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
from zoo.training import restoring, resuming
from zoo.training.files import previous_of

_BY_NAME = StateDictOptions(flatten_optimizer_state_dict=True)
_WHOLE = StateDictOptions(full_state_dict=True)


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2, tensor parallelism, or both, for every family.

    A checkpoint is a folder to which each process writes its part. Any number of processes goes on from it;
    they go on from the one file of another strategy, too.

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
                is one file, and does not name its parameters.
        """
        path = Path(self.broadcast(checkpoint_path))
        checkpoint = read_checkpoint(path)
        if path.is_file():
            self._share_out(checkpoint, path)
        else:
            self._read_parts(path)
        return checkpoint

    def _read_parts(self, path: Path) -> None:
        assert self.model is not None
        weights = {"state_dict": get_model_state_dict(self.model)}
        state_dict_loader.load(weights, checkpoint_id=path)
        set_model_state_dict(self.model, weights["state_dict"])
        for index, optimizer in enumerate(self.optimizers):
            key = f"optimizer_{index}"
            state = {key: get_optimizer_state_dict(self.model, optimizer, options=_BY_NAME)}
            state_dict_loader.load(state, checkpoint_id=path)
            set_optimizer_state_dict(self.model, optimizer, state[key], options=_BY_NAME)

    def _share_out(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Takes each process's part of what one wrote."""
        assert self.model is not None
        numbered = checkpoint.get(resuming.KEY, {}).get(resuming.OPTIMIZED)
        if self.optimizers and numbered is None:
            raise CheckpointError(
                f"{path} does not name the parameters whose optimizer's state it holds",
                hint="go on with the strategy that wrote it, or start from what zoo export makes of it",
            )
        set_model_state_dict(self.model, dict(checkpoint["state_dict"]), options=_WHOLE)
        for index, optimizer in enumerate(self.optimizers):
            groups = restoring.names_of(self.model, optimizer)
            state = restoring.by_name(checkpoint["optimizer_states"][index], numbered, groups)
            set_optimizer_state_dict(self.model, optimizer, state, options=_WHOLE)

    def remove_checkpoint(self, filepath: str | Path) -> None:
        """Removes a checkpoint and the one before it."""
        if self.is_global_zero:
            _remove(Path(filepath))
            _remove(previous_of(Path(filepath)))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
