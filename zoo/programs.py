"""Programs that a model wrote, run apart; and how often one of several passes.

Limits and an audit hook contain what goes wrong by mistake: loops without end, memory without end, files that
are written elsewhere, calls to the network. They are no wall against a program that is made to break out: run
what strangers wrote in a machine of its own.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from math import comb

_CHILD = """
import os, resource, sys

def limit(name, value):
    resource.setrlimit(getattr(resource, name), (value, value))

token, seconds, memory, size, folder = sys.argv[1], *map(int, sys.argv[2:5]), os.path.realpath(os.getcwd())
program = sys.stdin.read()
sys.argv[:] = ["program.py"]
limit("RLIMIT_CPU", seconds), limit("RLIMIT_AS", memory), limit("RLIMIT_FSIZE", size), limit("RLIMIT_CORE", 0)
APART = ("socket.", "subprocess.", "ctypes.", "os.fork", "os.exec", "os.system", "os.spawn", "os.posix_spawn",
         "os.kill", "os.chdir", "os.fchdir", "os.symlink", "os.link", "os.putenv", "signal.", "mmap.", "pty.")
TOUCHING = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.chown",
            "os.utime")

def is_inside(path):
    return isinstance(path, int) or os.path.realpath(os.fsdecode(path)).startswith(folder + os.sep)

def watch(event, args):
    if event.startswith(APART):
        raise PermissionError(event)
    if event == "open":
        path, mode, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if writes and not is_inside(path):
            raise PermissionError(path)
    elif event.startswith(TOUCHING):
        for path in args:
            if isinstance(path, (str, bytes)) and not is_inside(path):
                raise PermissionError(path)

write = os.write
sys.addaudithook(watch)
exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})
write(1, token.encode())
"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a program may take."""

    seconds: int = 5
    """Of wall time, and of processor time."""
    memory_bytes: int = 1 << 30
    """Of address space; Python itself takes some 20 MB."""
    file_bytes: int = 1 << 20
    """Of each file that it writes, all of them in a folder that is removed."""


def passes(program: str, limits: Limits = Limits()) -> bool:
    """Whether a Python program, its tests at its end, runs to its end without an error.

    It runs in a process of its own, without site packages and environment, in an empty folder. There is no
    network and no other process, and only files in that folder are written.

    Raises:
        OSError: No process can be started.
    """
    token = secrets.token_hex(16)  # its exit alone says nothing: a program may end before its tests
    sizes = (limits.seconds, limits.memory_bytes, limits.file_bytes)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        child = subprocess.Popen(  # noqa: S603 - what this is for
            [sys.executable, "-I", "-S", "-B", "-c", _CHILD, token, *map(str, sizes)],
            cwd=folder,
            env={},
            stdin=subprocess.PIPE,
            stdout=(out := tempfile.TemporaryFile()),  # noqa: SIM115 - closed below; a pipe would fill up
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            with suppress(subprocess.TimeoutExpired, BrokenPipeError):
                child.communicate(program.encode(), timeout=limits.seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        with out:
            out.seek(0)
            return child.returncode == 0 and token.encode() in out.read()


def pass_at_k(num_written: int, num_right: int, k: int) -> float:
    """How likely one of k programs passes, of which so many of those that were written did; without bias.

    Chen et al., 2021, equation 1: https://arxiv.org/abs/2107.03374

    Raises:
        ValueError: Fewer were written than k.
    """
    if num_written < k:
        raise ValueError(f"pass@{k} needs at least {k} programs, got {num_written}")
    return 1 - comb(num_written - num_right, k) / comb(num_written, k)
