"""Lightning Zoo: Transformers of all three shapes, trained by recipes, extended by plugins.

`zoo.load`, `zoo.save` and the group namespaces (`zoo.decoders`, `zoo.heads`, …) are imported on first use:
`import zoo` imports no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.hub import load as load
    from zoo.hub import save as save

__all__ = [
    "callbacks",
    "data",
    "decoders",
    "encoder_decoders",
    "encoders",
    "heads",
    "load",
    "modules",
    "save",
    "schedules",
]

_FUNCTIONS = {"load": "zoo.hub", "save": "zoo.hub"}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    if name in __all__:
        return importlib.import_module(f"zoo.{name}")
    raise AttributeError(f"module `zoo` has no attribute `{name}`")
