"""Imports of much code, in two thirds of their time."""

import gc
import importlib
from types import ModuleType


def import_module(name: str) -> ModuleType:
    """Imports a module while Python does not look for garbage.

    What is imported stays, and to look through it over and over takes a third of the time of importing torch
    and Lightning (docs/performance.md).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if was_enabled:
            gc.enable()
