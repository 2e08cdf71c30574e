"""Random numbers that a run can take up again: every generator's state, and seeds that follow from names."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

State = dict[str, Any]
"""Of the generators of python, numpy, torch and CUDA; tensors and plain values only."""


def capture() -> State:
    """The state of every generator of this process."""
    version, words, gauss = random.getstate()
    numbers: Any = np.random.get_state(legacy=True)
    kind, keys, position, has_gauss, cached = numbers
    state: State = {
        "python": [version, torch.tensor(words), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore(state: State) -> None:
    """Puts every generator back."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_of(*parts: int | str) -> int:
    """A seed that follows from these parts, and from nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws from this seed inside, and leaves the generators of the processor as they were."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
