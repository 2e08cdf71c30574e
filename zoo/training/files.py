"""Checkpoints as files that are whole or not there at all."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from zoo.errors import CheckpointError
from zoo.hub import sharded
from zoo.hub.loading import read_checkpoint

LAST = "last.ckpt"
"""The file that a run keeps up to date."""


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside, syncs, then renames; keeps the file before; reads tensors and plain values only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes a checkpoint; until it is whole on disk, the one before keeps its name.

        Raises:
            CheckpointError: It cannot be written; what was there is as it was.
        """
        path = Path(path)
        part = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                _copy_name(path, previous_of(path))
            os.replace(part, path)
            _sync(path.parent)
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                part.unlink()
            # torch tells of a full disk as an "unexpected pos".
            reason = (
                error.strerror if isinstance(error, OSError) else "the disk is full, or a limit is reached"
            )
            whole = f"{path} is still whole" if path.exists() else None
            raise CheckpointError(f"{path} cannot be written: {reason}", hint=whole) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Reads a checkpoint, also one that several processes wrote, each its part.

        Raises:
            CheckpointError: It is not there, is cut off, or holds more than tensors and plain values.
        """
        path = Path(path)
        if sharded.is_sharded(path):
            return sharded.whole(path)
        try:
            return read_checkpoint(path, mmap=False)
        except CheckpointError as error:
            error.hint = error.hint or offer(path)
            raise

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint and the one before it."""
        for file in (Path(path), previous_of(Path(path))):
            file.unlink(missing_ok=True)


def previous_of(path: Path) -> Path:
    """Where the checkpoint before this one is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def offer(path: Path) -> str | None:
    """What to do about a checkpoint that cannot be read."""
    previous = previous_of(path)
    return f"the one before it: --ckpt_path {previous}" if previous.is_file() else None


def newest(folder: Path) -> Path | None:
    """The checkpoint that was written last by any run under a folder."""
    found = [*folder.rglob(LAST), *folder.rglob(previous_of(Path(LAST)).name)]
    # Where both were written within the clock's grain, it is the last.
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name == LAST), default=None)


def _copy_name(path: Path, name: Path) -> None:
    """Lets a file have a second name, so that it is never without one."""
    aside = name.with_name(f"{name.name}.part")
    aside.unlink(missing_ok=True)
    try:
        os.link(path, aside)
    except OSError:  # a file system without links
        os.replace(path, name)
    else:
        os.replace(aside, name)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
