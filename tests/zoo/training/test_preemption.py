"""A run that is asked to end saves first, and says by its exit code that it is to be run again."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

RUN = Path("runs", "recipe", "version_0", "checkpoints", "last.ckpt")
FIT = ("fit", "--config", "recipe.yaml", "--trainer.max_steps", "100000", "--trainer.limit_val_batches", "0")
ONE = (sys.executable, "-m", "zoo")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python", *ONE)
TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


@pytest.fixture(autouse=True)
def leave_none_behind(workplace: Path) -> Iterator[None]:
    yield
    for process in processes_of(workplace):
        os.kill(process, signal.SIGKILL)


def start(workplace: Path, *command: str, **environment: str) -> "subprocess.Popen[str]":
    """A run, once its first epochs are saved."""
    process = subprocess.Popen(
        command,
        cwd=workplace,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
            "WORKPLACE": str(workplace),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 150
    while not (workplace / RUN).exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never saved"
        time.sleep(0.1)
    return process


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    try:
        _, error = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail("it hangs")
    return process.returncode, error


def saved_at(error: str, workplace: Path) -> int:
    """The step that was told, which must be the file's."""
    (told,) = re.findall(r"zoo: interrupted at step (\d+); everything so far is in ", error)
    assert torch.load(workplace / RUN, weights_only=True)["global_step"] == int(told)
    return int(told)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGUSR2, 143), (signal.SIGINT, 130)],
)
def test_a_signal_saves_and_tells_the_scheduler(workplace: Path, number: int, code: int) -> None:
    process = start(workplace, *ONE, *FIT, "--data.num_workers", "1")
    os.killpg(process.pid, number)  # the processes that make batches get it, too
    returned, error = ended(process)
    assert (returned, "Traceback" in error) == (code, False), error
    assert saved_at(error, workplace) > 0


def test_slurm_is_asked_to_run_the_job_again_and_it_goes_on_by_itself(workplace: Path) -> None:
    (workplace / "scontrol").write_text('#!/bin/sh\necho "$@" > asked\n')
    (workplace / "scontrol").chmod(0o755)
    path = f"{workplace}:{os.environ['PATH']}"
    process = start(workplace, *ONE, *FIT, PATH=path, SLURM_JOB_ID="7")
    process.send_signal(signal.SIGUSR1)
    returned, error = ended(process)
    assert returned == 143, error
    assert (workplace / "asked").read_text() == "requeue 7\n"
    step = saved_at(error, workplace)
    again = subprocess.run(
        [*ONE, *FIT, "--trainer.max_steps", str(step + 1)],
        cwd=workplace,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SLURM_RESTART_COUNT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert f"goes on from {RUN}" in again.stdout


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["all", "launcher", "first", "second"])
@pytest.mark.parametrize("launcher", ["torchrun", "Lightning"])
def test_two_processes_save_together_whoever_is_signalled(workplace: Path, launcher: str, whom: str) -> None:
    process = start(workplace, *(TORCHRUN if launcher == "torchrun" else ONE), *FIT, *TWO)
    if whom == "all":
        os.killpg(process.pid, signal.SIGTERM)
    elif whom == "launcher":  # of Lightning's own, the first process
        process.send_signal(signal.SIGTERM)
    else:
        os.kill(process_of(workplace, rank=0 if whom == "first" else 1), signal.SIGTERM)
    returned, error = ended(process)
    assert returned != 0, error
    if launcher == "Lightning":
        assert returned == 143
    assert saved_at(error, workplace) > 0


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "Lightning"])
def test_ctrl_c_saves_on_two_processes(workplace: Path, launcher: str) -> None:
    process = start(workplace, *(TORCHRUN if launcher == "torchrun" else ONE), *FIT, *TWO)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    returned, error = ended(process)
    assert returned == (130 if launcher == "Lightning" else 1), error
    assert saved_at(error, workplace) > 0


def processes_of(workplace: Path) -> dict[int, bytes]:
    """All processes of the runs there, with the variables that they were started with."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            variables = (entry / "environ").read_bytes()
            if entry.name.isdecimal() and f"WORKPLACE={workplace}\0".encode() in variables:
                found[int(entry.name)] = variables
    return found


def process_of(workplace: Path, rank: int) -> int:
    """The process that trains as this rank; Lightning's own launcher is the first."""
    for process, variables in processes_of(workplace).items():
        is_agent = b"torch.distributed.run" in Path(f"/proc/{process}/cmdline").read_bytes()
        is_first = rank == 0 and b"\0LOCAL_RANK=" not in variables and not is_agent
        if is_first or f"\0LOCAL_RANK={rank}\0".encode() in variables:
            return process
    raise AssertionError(f"no process trains as rank {rank}")
