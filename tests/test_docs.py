"""The site is built without a broken link, and holds what is meant to be published; its recipes hold."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zoo import registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, text=True, capture_output=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_in_the_site_and_no_script_is(site: Path) -> None:
    assert {path.stem for path in DOCS.glob("*.md")} <= {path.stem for path in site.glob("*.html")}
    assert [path.relative_to(site).as_posix() for path in site.rglob("*.py")] == ["examples/smollm3.py"]


@pytest.mark.slow
def test_the_reference_is_made_of_docstrings(site: Path) -> None:
    decoders = (site / "reference" / "zoo.decoders.html").read_text("utf-8")
    assert "zoo.decoders.Llama" in decoders
    assert "Heads of keys and values; None: as many as query heads." in decoders
    assert "zoo.schedules.WarmupCosine" in (site / "reference" / "zoo.schedules.html").read_text("utf-8")


def test_every_page_stands_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f": {page.name}\n" not in menu] == []


def test_the_contracts_name_every_kind_and_say_what_each_provides() -> None:
    page = (DOCS / "contracts.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\w ]+) \| (`zoo\..*?) \|", page, re.MULTILINE)
    assert sorted(re.findall(r"`([\w.]+)`", " ".join(groups for _, groups in rows))) == sorted(
        registry.GROUPS
    )
    headings = {title.lower().removeprefix("a ") for title in re.findall(r"^## (.+)$", page, re.MULTILINE)}
    assert {kind for kind, _ in rows} <= headings


def test_links_between_pages_lead_somewhere() -> None:
    """What the build of the site asks for, too; the reference is made there."""
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", page.read_text("utf-8")):
            assert target.startswith("reference/") or (DOCS / target).is_file(), f"{page.name}: {target}"


def test_the_recipe_language_is_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    page = (DOCS / "recipe-language.md").read_text("utf-8")
    for name, text in re.findall(r'^```yaml title="([^"]+)"\n(.*?)^```$', page, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        outcome = command(*line.split()[1:])
        assert outcome.code == 0, outcome
    (resolved,) = tmp_path.rglob("config.yaml")
    text = resolved.read_text("utf-8")
    assert "torch.optim.SGD" in text
    assert "weight_decay: 0.1" not in text
    assert "zoo.callbacks.GradNorm" in text
    assert "zoo.callbacks.Throughput" in text
