"""What a plugin costs its author: files and lines, seconds from scaffold to green, and a listing of fifty.

Run it on a quiet machine; the last line is JSON. It installs into a folder of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from zoo.cli.scaffolding import write

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "smollm3.py"
"""An architecture that is ported from transformers; with the scaffold's pyproject.toml it is a plugin."""
NUM_PLUGINS = 50
AIM = {"files": 2, "lines": 150, "list_seconds": 0.5}


def seconds(words: list[str], site: Path) -> float:
    """The wall time of a command that must succeed."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL, cwd=site)
    return time.perf_counter() - start


def lines(files: list[Path]) -> int:
    """Of all of them, empty ones included."""
    return sum(len(path.read_text("utf-8").splitlines()) for path in files)


def listing(site: Path, turns: int) -> float:
    """The fastest of some cold starts of `zoo list`."""
    return min(seconds([sys.executable, "-m", "zoo", "list"], site) for _ in range(turns))


def fill(site: Path) -> None:
    """Fifty plugins of a family, a head and recipes each."""
    for number in range(NUM_PLUGINS):
        name = f"plugin_{number}"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: lightning-zoo>=0.1\n"
        )
        points = {"zoo.decoders": f"{name}:Family{number}", "zoo.heads": f"{name}:Head{number}"}
        lines = [f"[{group}]\n{name} = {value}\n" for group, value in points.items()]
        (info / "entry_points.txt").write_text("".join([*lines, f"[zoo.recipes]\n{name} = {name}\n"]))
        (site / name).mkdir()
        (site / name / "tiny.yaml").write_text("# A recipe.\n")


def main() -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="of which the fastest counts")
    parser.add_argument("--steps", type=int, help="as other benchmarks take; there are none here")
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as place:
        home, site = Path(place), Path(place, "site")
        site.mkdir()
        start = time.perf_counter()
        folder = write("acme-bert", "encoder", home)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        alone = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(site), str(folder)]
        seconds([*pip, *alone], site)
        fast = seconds([sys.executable, "-m", "zoo", "plugin", "check", "acme-bert", "--fast"], site)
        green = time.perf_counter() - start
        own = [folder / "acme_bert" / "model.py", folder / "pyproject.toml"]
        port = [EXAMPLE, write("smollm3", "decoder", home) / "pyproject.toml"]
        sizes = {"lines": lines(own), "lines_smollm3": lines(port)}
        one = listing(site, turns)
        fill(site)
        fifty = listing(site, turns)
        (site / "plugin_0.py").write_text("raise SystemExit\n")
        broken = listing(site, turns)
    found = {
        "benchmark": Path(__file__).stem,
        "files": len(own),
        **sizes,
        "scaffold_to_green_seconds": round(green, 1),
        "check_fast_seconds": round(fast, 1),
        "list_seconds_one": round(one, 3),
        "list_seconds": round(fifty, 3),
        "list_seconds_broken": round(broken, 3),
        "aim": AIM,
        "ratio": round(fifty / one, 2),  # what fifty more plugins cost a listing
    }
    for name, value in found.items():
        print(f"{name:28}{value}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
