"""Packages that only some exports need."""

import importlib.util

from zoo.errors import ZooError


def require(extra: str, *packages: str) -> None:
    """Refuses an export without its packages.

    Args:
        extra: Of lightning-zoo, called as the format.
        packages: What it brings.

    Raises:
        ZooError: With the command that installs them.
    """
    if any(importlib.util.find_spec(name) is None for name in packages):
        raise ZooError(
            f"to export as {extra} needs the extra `{extra}`", hint=f"pip install 'lightning-zoo[{extra}]'"
        )
