"""Imports during which Python does not look for garbage."""

import gc
from pathlib import Path

import pytest

from zoo.importing import import_module


@pytest.mark.parametrize("is_enabled", [True, False])
@pytest.mark.parametrize("text", ["import gc\nseen = gc.isenabled()", "raise ImportError('broken')"])
def test_the_collector_pauses_for_an_import_and_is_as_it_was_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_enabled: bool, text: str
) -> None:
    name = f"imported_{is_enabled}_{len(text)}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    if not is_enabled:
        gc.disable()
    try:
        if text.startswith("raise"):
            with pytest.raises(ImportError, match="broken"):
                import_module(name)
        else:
            assert not import_module(name).seen
        assert gc.isenabled() is is_enabled
    finally:
        gc.enable()
