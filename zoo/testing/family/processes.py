"""Several processes: however a model is spread over them, it learns what one would learn."""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from zoo.testing import ranks
from zoo.testing.checks import Skip, slow
from zoo.testing.families import Family, require_alike


@slow
def two_processes_learn_what_one_does(family: Family) -> None:
    """On two processes, by DDP and by FSDP2, it has the weights that one process would have."""
    if family.kind.__module__ == "__main__" or "<locals>" in family.kind.__qualname__:
        raise Skip("another process cannot import it")
    with tempfile.TemporaryDirectory() as place:
        path = f"{family.kind.__module__}:{family.kind.__qualname__}"
        launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks.NUM_PROCESSES))
        done = subprocess.run(  # noqa: S603 - this Python
            [sys.executable, *launch, "-m", ranks.__name__, path, place],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"two processes fail:\n{done.stderr[-1500:]}"
        expected = ranks.learnt(family, Path(place))
        for file in sorted(Path(place).glob("*.pt")):
            found = torch.load(file, weights_only=True)
            assert found.keys() == expected.keys(), f"{file.stem} has other parameters"
            for name, weight in expected.items():
                require_alike(
                    found[name], weight, f"weights `{name}` of one process and of {file.stem}", 1e-4
                )
