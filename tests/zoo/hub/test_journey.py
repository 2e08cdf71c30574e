"""The whole way to the Hub and back, each step in a process of its own, with Xet and without it."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import zoo
from zoo.modules import DecoderModule

from .loopback import TOKEN, Fault, Loopback

pytestmark = pytest.mark.slow

NAME = "me/llama"
COMMIT = f"POST /api/models/{NAME}/commit/main"
WEIGHTS = "model.safetensors"


@dataclass
class Machine:
    """Somebody's: what is run there knows of what ran before by the disk alone."""

    hub: Loopback
    home: Path
    has_xet: bool
    token: str | None = TOKEN

    def start(self, *words: str) -> "subprocess.Popen[str]":
        own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ZOO_"))}
        environment = {
            **own, "HF_ENDPOINT": self.hub.url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(self.home),
            "ZOO_CACHE": str(self.home / "zoo"), "NO_COLOR": "1", "COLUMNS": "1000",
            **({"HF_TOKEN": self.token} if self.token else {}),
            **({} if self.has_xet else {"HF_HUB_DISABLE_XET": "1"}),
        }  # fmt: skip
        return subprocess.Popen(
            [sys.executable, *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, code: int = 0) -> str:
        """What Python says on its last line, or of why it fails."""
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        assert TOKEN not in out + err
        return (err if code else "".join(out.splitlines()[-1:])).strip()

    def zoo(self, *words: str, code: int = 0) -> str:
        return self.run("-m", "zoo", *words, code=code)

    def killed(self, at: str, *words: str) -> None:
        """Runs a command until the Hub has been asked for something, and kills it."""
        before = len(self.hub.lines(at))
        process, is_over = self.start("-m", "zoo", *words), threading.Event()
        while len(self.hub.lines(at)) == before:
            assert process.poll() is None, process.communicate()[1]
            is_over.wait(0.02)
        is_over.wait(0.3)
        assert process.poll() is None
        process.kill()
        process.communicate()


@pytest.fixture(params=[False, True], ids=["LFS", "Xet"])
def machine(hub: Loopback, tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    hub.xet_folder = tmp_path / "xet" if request.param else None
    return Machine(hub, tmp_path / "home", request.param)


@pytest.fixture
def elsewhere(machine: Machine, tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """Pulls a revision to a machine that has nothing yet; its files by name."""

    def pull(*words: str) -> dict[str, bytes]:
        for path in (tmp_path / "other", tmp_path / "copy"):
            shutil.rmtree(path, ignore_errors=True)
        other = Machine(machine.hub, tmp_path / "other", machine.has_xet)
        other.zoo("pull", NAME, "--to", str(tmp_path / "copy"), *words)
        return contents(tmp_path / "copy")

    return pull


@pytest.fixture
def mine(build: Callable[..., DecoderModule], tmp_path: Path) -> Path:
    """A folder with 30 MB of weights and small files, which its owner has described."""
    folder = zoo.save(build(vocab_size=15_000, hidden_size=256), tmp_path / "mine")
    (folder / "README.md").write_text("# Mine\n")
    assert 30e6 < (folder / WEIGHTS).stat().st_size < 40e6
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """A model's files; a pull brings no card."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"}


def stored_bytes(hub: Loopback) -> int:
    """What the store of large files holds."""
    folder = hub.xet_folder or Path()
    found = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if hub.xet_folder else 0
    return found + sum(map(len, hub.large.values()))


def test_a_folder_is_published_tagged_changed_and_read_at_either_revision(
    machine: Machine, mine: Path, elsewhere: Callable[..., dict[str, bytes]]
) -> None:
    hub = machine.hub
    first = contents(mine)
    address = machine.zoo("push", str(mine), NAME)
    repository = hub.repositories[NAME]
    pinned = repository.head
    assert address == f"{hub.url}/{NAME}/commit/{pinned}"
    assert repository.private
    assert repository.names() == {path.name for path in mine.iterdir()}
    assert stored_bytes(hub) > 29e6
    assert bool(hub.lines("xet-write-token")) is machine.has_xet
    assert bool(hub.lines("PUT /large/")) is not machine.has_xet

    script = f"import huggingface_hub as h; h.HfApi().create_tag('{NAME}', tag='v1', revision='{pinned}')"
    machine.run("-c", script)

    before = stored_bytes(hub)
    hub.requests.clear()
    (mine / "generation_config.json").write_text('{"max_new_tokens": 7}\n')
    (mine / "README.md").write_text("# Mine, and newer\n")
    machine.zoo("push", str(mine), NAME)
    assert repository.head != pinned
    assert len(repository.commits) == 3
    assert hub.lines("^PUT |xet-write-token") == []
    assert stored_bytes(hub) == before
    assert hub.read(NAME, "README.md") == b"# Mine, and newer\n"

    assert elsewhere() == contents(mine) != first
    for revision in ("v1", pinned):
        assert elsewhere("--revision", revision) == first


def test_who_has_no_token_is_told_so_and_what_is_missing_is_missing(machine: Machine, folder: Path) -> None:
    (folder / "README.md").write_text("# Mine\n")
    machine.zoo("push", str(folder), NAME)
    head = machine.hub.repositories[NAME].head
    machine.token = None
    nobody = "zoo: nobody is logged in to the Hub\n  `hf auth login`, or set HF_TOKEN"
    assert machine.zoo("push", str(folder), NAME, code=2) == nobody
    unseen = (
        "zoo: there is no model `{}` on the Hub, or none that you may see\n  check the name; for a private "
    )
    assert machine.zoo("pull", NAME, code=2).startswith(unseen.format(NAME))
    assert machine.hub.repositories[NAME].head == head
    machine.token = TOKEN
    assert machine.zoo("pull", "me/nothing", code=2).startswith(unseen.format("me/nothing"))
    machine.token = "hf_oldoldoldoldoldoldoldoldoldoldold"
    refused = f"zoo: the Hub refuses `{NAME}` to your token (401)\n  `hf auth login` takes a new one"
    assert machine.zoo("pull", NAME, code=2) == refused


def test_a_download_that_is_killed_leaves_no_half_and_the_next_one_is_whole(
    machine: Machine, mine: Path, tmp_path: Path
) -> None:
    machine.zoo("push", str(mine), NAME)
    cache = machine.home / "hub" / f"models--{NAME.replace('/', '--')}"
    shutil.rmtree(cache, ignore_errors=True)
    at = "xet-read-token" if machine.has_xet else "GET /large/"
    machine.hub.faults.append(Fault(at, "hang", after=0 if machine.has_xet else 10_000_000, seconds=100))
    machine.killed(at, "pull", NAME)
    assert not list(cache.glob(f"snapshots/*/{WEIGHTS}"))
    left = list(cache.glob("blobs/*.incomplete"))
    assert left or machine.has_xet
    for path in left:
        os.utime(path, (time.time() - 2 * 3600,) * 2)
    machine.zoo("pull", NAME, "--to", str(tmp_path / "copy"))
    assert contents(tmp_path / "copy") == contents(mine)
    assert not list(cache.glob("blobs/*.incomplete"))


@pytest.mark.parametrize("stage", ["content", "commit"])
def test_an_upload_that_is_killed_leaves_the_old_revision_and_the_next_one_lands(
    machine: Machine, mine: Path, stage: str, elsewhere: Callable[..., dict[str, bytes]]
) -> None:
    hub = machine.hub
    machine.zoo("push", str(mine), NAME)
    head, old = hub.repositories[NAME].head, contents(mine)
    path = mine / WEIGHTS
    path.write_bytes(path.read_bytes()[:-8_000_000] + os.urandom(8_000_000))
    at = COMMIT if stage == "commit" else "xet-write-token" if machine.has_xet else "PUT /large/"
    hub.faults.append(Fault(at, "stall", seconds=100))
    machine.killed(at, "push", str(mine), NAME)
    assert hub.repositories[NAME].head == head
    assert elsewhere() == old
    hub.requests.clear()
    machine.zoo("push", str(mine), NAME)
    assert len(hub.repositories[NAME].commits) == 3
    if not machine.has_xet:
        assert bool(hub.lines("^PUT ")) is (stage == "content")
    assert elsewhere() == contents(mine) != old
