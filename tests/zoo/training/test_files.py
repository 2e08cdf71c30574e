"""Checkpoints are whole or not there at all."""

import os
import pickle
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import CheckpointError
from zoo.training.files import AtomicCheckpointIO, newest, previous_of

OLD, NEW = ({"zoo": {}, "weight": torch.full((300_000,), float(value))} for value in (1, 2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where an older checkpoint stands already."""
    path = tmp_path / "run" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(OLD, path)
    return path


def value_of(path: Path) -> float:
    return float(AtomicCheckpointIO().load_checkpoint(path)["weight"].unique())


def in_a_process(work: Callable[[], Any]) -> int:
    """How it ends, in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            work()
        except CheckpointError as error:
            print(error)
            code = 2
        except BaseException:
            code = 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_checkpoint_before_is_kept(path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(NEW, path)
    assert (value_of(path), value_of(previous_of(path))) == (2, 1)
    assert sorted(file.name for file in path.parent.iterdir()) == ["last.ckpt", "last.previous.ckpt"]
    AtomicCheckpointIO().remove_checkpoint(path)
    assert list(path.parent.iterdir()) == []


def test_a_file_system_without_links_keeps_it_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", link)
    AtomicCheckpointIO().save_checkpoint(NEW, path)
    assert (value_of(path), value_of(previous_of(path))) == (2, 1)


@pytest.mark.parametrize("call", ["fsync", "link", "replace"])
def test_a_process_killed_while_it_writes_leaves_a_whole_one(
    path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        monkeypatch.setattr(f"os.{call}", die)
        AtomicCheckpointIO().save_checkpoint(NEW, path)

    assert in_a_process(work) == -signal.SIGKILL
    assert value_of(path) == 1
    AtomicCheckpointIO().save_checkpoint(NEW, path)  # what the killed one left is not in the way
    assert (value_of(path), value_of(previous_of(path))) == (2, 1)
    assert len(list(path.parent.iterdir())) == 2


def test_a_process_killed_between_two_writes_leaves_a_whole_one(path: Path) -> None:
    large = {"zoo": {}, "weight": torch.full((30_000_000,), 2.0)}
    child = os.fork()
    if child == 0:
        AtomicCheckpointIO().save_checkpoint(large, path)
        os._exit(0)
    part = path.with_name("last.ckpt.part")
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert value_of(path) == 1


def test_a_full_disk_leaves_the_one_before_and_is_told_in_a_sentence(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write fails as it does on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        AtomicCheckpointIO().save_checkpoint(NEW, path)

    assert in_a_process(work) == 2
    assert capfd.readouterr().out.startswith(f"{path} cannot be written: ")
    assert value_of(path) == 1
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("cut", [0, 1000, -1, -3000])
def test_a_truncated_file_is_named_and_the_one_before_it_offered(path: Path, cut: int) -> None:
    AtomicCheckpointIO().save_checkpoint(NEW, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=f"^{path} is no checkpoint, or is cut off") as error:
        value_of(path)
    assert error.value.hint == f"the one before it: --ckpt_path {previous_of(path)}"
    assert value_of(previous_of(path)) == 1


def test_a_changed_byte_is_found(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is corrupt: its part `\w+/data/0` is not what was written"):
        value_of(path)


class Payload:
    def __reduce__(self) -> Any:
        return os.system, ("false",)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickled_payload_is_refused(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "last.ckpt"
    write({"zoo": {}, "payload": Payload()}, path)
    with pytest.raises(CheckpointError, match=f"^{path} (holds more than tensors|is no checkpoint)"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)


def test_the_newest_of_all_runs_is_found(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    times = {"version_9/last.ckpt": 1, "version_10/last.ckpt": 3, "version_10/last.previous.ckpt": 3,
             "version_2/last.ckpt": 2}  # fmt: skip
    for name, when in times.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (when, when))
    assert newest(tmp_path) == tmp_path / "version_10" / "last.ckpt"
    (tmp_path / "version_10" / "last.ckpt").unlink()
    assert newest(tmp_path) == tmp_path / "version_10" / "last.previous.ckpt"
