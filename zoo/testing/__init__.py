"""Checks that a family's author runs, first-party or not."""

from zoo.testing.parity import Reference, assert_parity

__all__ = ["Reference", "assert_parity"]
