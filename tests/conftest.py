"""Every test: a cache of its own, no network, seeds."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and checkpoints, where they lie beside the project."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data in {SHARED}")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["ZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def zoo(tmp_path: Path) -> Run:
    """Runs the `zoo` command in a process of its own, in an empty folder."""

    def run(
        *arguments: str, path: Path | None = None, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
        if path is not None:
            environment["PYTHONPATH"] = str(path)
        code = "import sys; from zoo.cli import main; sys.argv[0] = 'zoo'; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=cwd or tmp_path,
            env=environment,
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )

    return run
