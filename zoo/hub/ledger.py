"""What has been proven of a family: a file of its plugin's package, which the plugin's checks write."""

import json
from collections.abc import Mapping
from importlib import resources

FILE = "parity.json"
"""Of a plugin's top package: by `model_type` and head, the reference and the largest differences."""


def proven(spec: type, model_type: str, head: str) -> Mapping[str, str] | None:
    """How far a family under a head is from its reference, where its plugin says.

    Args:
        spec: The family's class.
        model_type: The Hub's name for it.
        head: The head's class name.

    Returns:
        `reference`, `variants`, `logits`, `loss`, `gradients` and what else was compared, or None.
    """
    package = spec.__module__.partition(".")[0]
    try:
        told = json.loads((resources.files(package) / FILE).read_text("utf-8"))
    except (OSError, TypeError, ValueError, ModuleNotFoundError):  # none, or a plugin that is one module
        return None
    found = told.get(model_type, {}).get(head)
    return found if isinstance(found, dict) else None
