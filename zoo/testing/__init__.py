"""Checks that a family's author runs, first-party or not."""

from zoo.testing.parity import Reference, assert_parity
from zoo.testing.writing import assert_writes_alike

__all__ = ["Reference", "assert_parity", "assert_writes_alike"]
