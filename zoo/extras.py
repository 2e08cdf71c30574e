"""Packages that only some parts need."""

import importlib.util

from zoo.errors import ZooError


def require(subject: str, extra: str, *packages: str) -> None:
    """Refuses a part without its packages.

    Args:
        subject: What needs them.
        extra: Of lightning-zoo.
        packages: What it brings.

    Raises:
        ZooError: With the command that installs them.
    """
    if any(importlib.util.find_spec(name) is None for name in packages):
        raise ZooError(f"{subject} needs the extra `{extra}`", hint=f"pip install 'lightning-zoo[{extra}]'")
