"""Checks that an author runs, first-party or not: parity with a reference, and the conformance kit.

The kit's classes for pytest are imported when they are asked for; `zoo plugin check` needs no pytest.
"""

import importlib
from typing import TYPE_CHECKING, Any

from zoo.testing.parity import Reference, assert_parity
from zoo.testing.writing import assert_writes_alike

if TYPE_CHECKING:
    from zoo.testing.conformance import DataConformance as DataConformance
    from zoo.testing.conformance import FamilyConformance as FamilyConformance
    from zoo.testing.conformance import HeadConformance as HeadConformance
    from zoo.testing.conformance import ModuleConformance as ModuleConformance
    from zoo.testing.conformance import RecipesConformance as RecipesConformance

__all__ = [
    "DataConformance",
    "FamilyConformance",
    "HeadConformance",
    "ModuleConformance",
    "RecipesConformance",
    "Reference",
    "assert_parity",
    "assert_writes_alike",
]


def __getattr__(name: str) -> Any:
    if name.endswith("Conformance") and name in __all__:
        return getattr(importlib.import_module("zoo.testing.conformance"), name)
    raise AttributeError(f"module `zoo.testing` has no attribute `{name}`")
