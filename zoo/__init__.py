"""Lightning Zoo: Transformers of all three shapes, trained by recipes, extended by plugins.

The functions (`zoo.load`, `zoo.save`…) and the groups (`zoo.decoders`, `zoo.heads`…) are imported on
first use: `import zoo` imports no torch.
"""

from typing import TYPE_CHECKING, Any

from zoo.importing import import_module

if TYPE_CHECKING:
    from zoo.hub import load as load
    from zoo.hub import pull as pull
    from zoo.hub import push as push
    from zoo.hub import save as save

__all__ = [
    "adapters",
    "callbacks",
    "data",
    "decoders",
    "encoder_decoders",
    "encoders",
    "heads",
    "load",
    "modules",
    "pull",
    "push",
    "retrieval",
    "save",
    "schedules",
]

_FUNCTIONS = dict.fromkeys(("load", "pull", "push", "save"), "zoo.hub")


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    if name in __all__:
        return import_module(f"zoo.{name}")
    raise AttributeError(f"module `zoo` has no attribute `{name}`")
