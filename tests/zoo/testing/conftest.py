"""Plugins that break promises, installed in a folder of their own."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo.cli.scaffolding import TEMPLATES

BROKEN = Path(__file__).parent / "broken"
SOUND = {
    "sound_decoder.py": "decoder/your_plugin/model.py",
    "sound_encoder.py": "encoder/your_plugin/model.py",
    "sound_head.py": "head/your_plugin/head.py",
    "sound_data.py": "data/your_plugin/data.py",
    "sound_module.py": "module/your_plugin/module.py",
}
ENTRY_POINTS = """\
[zoo.decoders]
gptj = broken_families:FalseGPTJ
forgotten = broken_families:Forgotten
spread = broken_families:Spread
[zoo.modules]
amnesic = broken_modules:Amnesic
[zoo.recipes]
broken = broken_recipes
"""


# Of a folder that is no package, `package` would mean the whole session.
@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, importable: Any) -> Iterator[Path]:
    """Sound plugins, and others that break each promise, on the path of this process and its children."""
    site = tmp_path_factory.mktemp("broken")
    shutil.copytree(BROKEN, site, dirs_exist_ok=True)
    for name, template in SOUND.items():
        shutil.copy(TEMPLATES / template, site / name)
    info = site / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patch, importable(site):
        patch.setenv("PYTHONPATH", str(site))
        yield site
