"""Batches of rows that are about as long as each other, so that little of them is padding."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

POOLED_BATCHES = 32


class ByLength(Sampler[int]):
    """Rows in random order, those of a batch of like length; what fills no batch is left for another time.

    Args:
        lengths: Of each row, in any unit.
        batch_size: Rows of a batch.
        generator: Of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> None:
        self.lengths, self.batch_size, self.generator = torch.tensor(lengths), batch_size, generator

    def __len__(self) -> int:
        return len(self.lengths) // self.batch_size * self.batch_size

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(len(self.lengths), generator=self.generator)[: len(self)]
        pools = torch.split(order, POOLED_BATCHES * self.batch_size)
        alike = torch.cat([pool[self.lengths[pool].argsort(stable=True)] for pool in pools])
        batches = alike.view(-1, self.batch_size)
        yield from batches[torch.randperm(len(batches), generator=self.generator)].flatten().tolist()
