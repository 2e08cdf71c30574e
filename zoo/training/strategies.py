"""The strategy that spreads a model: sharded, divided by tensor parallelism, or both."""

from datetime import timedelta
from typing import Literal

from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.constants import default_pg_timeout

from zoo.errors import RecipeError


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2, tensor parallelism, or both, for every family.

    Args:
        tensor_parallel_size: Processes that divide a layer's products among them; they should stand in one
            machine. The others see different data, and share weights, gradients and optimizer state.
        save_distributed_checkpoint: Whether each process writes its own part, into a folder; otherwise the
            first gathers all of it and writes one file.
        process_group_backend: By default nccl on GPUs, gloo elsewhere.
        timeout: How long a process waits for the others.
    """

    def __init__(
        self,
        tensor_parallel_size: int = 1,
        save_distributed_checkpoint: bool = True,
        process_group_backend: Literal["nccl", "gloo"] | None = None,
        timeout: timedelta = default_pg_timeout,
    ) -> None:
        super().__init__(
            tensor_parallel_size=tensor_parallel_size,
            save_distributed_checkpoint=save_distributed_checkpoint,
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
