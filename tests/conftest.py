"""Every test: a cache of its own, no network, seeds."""

import importlib.util
import os
import random
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

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


@pytest.fixture(autouse=True)
def own_environment(cache: None) -> Iterator[None]:
    """No test leaves anything to the next one's processes: Lightning keeps a seed there."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def page_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script that writes a page of docs/, as it is run there: beside the others."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))

    def imported(name: str) -> ModuleType:
        found = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module

    return imported


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


Shell = Callable[..., str]


@pytest.fixture(scope="session")
def shell() -> Shell:
    """Runs a command in a process of its own; its output, or a failure that shows it."""

    def run(*words: str | Path, cwd: Path, **environment: str) -> str:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": "", **environment},
            capture_output=True,
            text=True,
            timeout=2400,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


Importable = Callable[[Path], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def importable() -> Importable:
    """Has this process, and those that it starts, find the plugins of a folder, and then forget them."""
    from zoo import registry

    @contextmanager
    def importable(site: Path) -> Iterator[None]:
        sys.path.insert(0, str(site))
        registry.entries.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
            yield
        sys.path.remove(str(site))
        registry.entries.cache_clear()
        for name, module in list(sys.modules.items()):
            if str(site) in str(getattr(module, "__file__", "")):
                del sys.modules[name]

    return importable


@pytest.fixture(scope="session")
def installed(importable: Importable) -> Callable[..., AbstractContextManager[None]]:
    """Has this process find plugins that pip installs from their folders into one of their own."""

    @contextmanager
    def installed(site: Path, *folders: Path) -> Iterator[None]:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        alone = ["--no-deps", "--no-build-isolation", "--no-index", "--target"]
        subprocess.run([*pip, *alone, str(site), *map(str, folders)], check=True, timeout=300)
        with importable(site):
            yield

    return installed


@pytest.fixture(scope="session")
def wheel(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zoo's wheel, built from the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    shell(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("lightning_zoo-*.whl")
    return path


@pytest.fixture
def environment(shell: Shell, tmp_path: Path) -> Callable[..., Path]:
    """Makes an environment with some wheels; what these need is linked from this one, the zoo left out."""

    def make(name: str, *wheels: Path) -> Path:
        home = tmp_path / name
        venv.create(home, with_pip=False)
        python = home / "bin" / "python"
        where = shell(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path)
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if "lightning_zoo" not in path.name:
                (Path(where.strip()) / path.name).symlink_to(path)
        shell(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", *wheels, cwd=tmp_path)
        return home / "bin"

    return make


RECIPE = """\
# A tiny Llama learns a small text.
model:
  class_path: zoo.modules.DecoderModule
  init_args:
    backbone:
      class_path: zoo.decoders.Llama
      init_args:
        vocab_size: 300
        hidden_size: 16
        intermediate_size: 32
        num_hidden_layers: 1
        num_attention_heads: 2
        max_position_embeddings: 48
    head: {class_path: zoo.heads.CausalLM}
    optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 1.0e-3}}
data:
  class_path: zoo.data.Text
  init_args:
    source: text.txt
    vocab_size: 300
    sequence_length: 16
    batch_size: 4
trainer:
  accelerator: cpu
  max_steps: 2
  num_sanity_val_steps: 0
  enable_progress_bar: false
  enable_model_summary: false
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `recipe.yaml` and the text that it trains on."""
    draw = random.Random(0)
    words = ["the", "cat", "dog", "sat", "on", "mat", "ran", "to", "a", "red", "sun"]
    lines = (" ".join(draw.choices(words, k=12)) + ".\n" for _ in range(80))
    (tmp_path / "text.txt").write_text("".join(lines))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass
class Outcome:
    """How a command ended."""

    code: str | int | None
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the `zoo` command in this process."""
    from zoo.cli import main

    monkeypatch.setattr(sys, "argv", ["zoo"])
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):  # what a run leaves there goes with the test
        monkeypatch.setenv(name, "0")

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        code: str | int | None = 0
        try:
            main(list(arguments))
        except SystemExit as error:
            code = error.code
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
