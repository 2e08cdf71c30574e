"""Signals that ask a run to end: noted at once, heeded where nothing is lost."""

import os
import signal
import subprocess
import threading
from typing import Any

PREEMPTED = 143
"""The exit code after SIGTERM and the signals that SLURM announces an end with: schedulers run it again."""

_ENDING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Signals:
    """Notes SIGTERM, SIGUSR1, SIGUSR2 and Ctrl-C; a second Ctrl-C interrupts at once.

    They take the place of Lightning's handlers, which save in the midst of a step or wait for other processes
    within the handler, and so hang.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def watch(self) -> None:
        """Starts to note them."""
        self.received = None
        if threading.current_thread() is threading.main_thread():
            for number in (*_ENDING, signal.SIGINT):
                self._before.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._note)

    def unwatch(self) -> None:
        """Puts back what was before."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = number


def requeue() -> None:
    """Asks SLURM to run the job again, where it only announced an end."""
    job = os.environ.get("SLURM_JOB_ID")
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if job:
        subprocess.run(["scontrol", "requeue", job], check=False)  # noqa: S603, S607


def is_run_again() -> bool:
    """Whether SLURM or torchrun starts this job once more."""
    counts = (os.environ.get(name, "0") for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))
    return any(count not in ("", "0") for count in counts)
