"""The kit under pytest: a class for each kind, inherited by a test of three lines.

class TestAcmeBert(FamilyConformance):
    spec = AcmeBert
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import lightning as L
import pytest

from zoo.modules.base import ZooModule
from zoo.specs import BackboneSpec, HeadSpec
from zoo.testing.checks import Check, require_known, run
from zoo.testing.data import DataSubject
from zoo.testing.families import Family
from zoo.testing.heads import HeadSubject
from zoo.testing.modules import ModuleSubject
from zoo.testing.parity import Reference
from zoo.testing.profiles import API, profile
from zoo.testing.recipes import RecipesSubject


class Conformance:
    """One test for each check of a profile; what a check skips, or is declared to fail, pytest shows so."""

    kind: ClassVar[str]
    api: ClassVar[int] = API
    """The version of the profile."""
    expected_failures: ClassVar[Mapping[str, str]] = {}
    """Checks that are known to fail, by name, and why, besides those that the class itself declares."""

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        for check in profile(cls.kind, cls.api):
            setattr(cls, f"test_{check.name}", _test(check))

    def subject(self) -> Any:
        """What is checked."""
        raise NotImplementedError

    def hold(self, check: Check) -> None:
        """Makes one check."""
        subject = self.subject()
        declared = getattr(getattr(subject, "kind", None), "expected_failures", {})
        expected = {**declared, **self.expected_failures}
        require_known(expected, profile(self.kind, self.api))
        outcome = run(check, subject, expected)
        if outcome.state == "skipped":
            pytest.skip(outcome.reason)
        if outcome.state == "expected":
            pytest.xfail(outcome.reason)
        if outcome.is_bad:
            pytest.fail(f"{outcome.sentence}\n{outcome.reason}", pytrace=False)


def _test(check: Check) -> Callable[[Conformance], None]:
    def test(self: Conformance) -> None:
        self.hold(check)

    test.__name__, test.__doc__ = f"test_{check.name}", check.sentence
    return pytest.mark.slow(test) if check.is_slow else test


class FamilyConformance(Conformance):
    """Holds a family's spec to what is promised of it."""

    kind = "family"
    spec: ClassVar[type[BackboneSpec]]

    def subject(self) -> Family:
        """The family, and its reference."""
        return Family(self.spec, self.reference)

    def reference(self, module: ZooModule) -> Reference | None:
        """Another implementation with a module's weights; None: there is none."""
        return module.spec.reference(module)


class HeadConformance(Conformance):
    """Holds a head's spec to what is promised of it."""

    kind = "head"
    head: ClassVar[type[HeadSpec]]

    def subject(self) -> HeadSubject:
        """The head."""
        return HeadSubject(self.head)


class DataConformance(Conformance):
    """Holds data to what is promised of them."""

    kind = "data"
    data: ClassVar[type[L.LightningDataModule]]

    def subject(self) -> DataSubject:
        """The data."""
        return DataSubject(self.data)


class ModuleConformance(Conformance):
    """Holds a LightningModule to what is promised of it."""

    kind = "module"
    module: ClassVar[type[L.LightningModule]]

    def subject(self) -> ModuleSubject:
        """The module."""
        return ModuleSubject(self.module)


class RecipesConformance(Conformance):
    """Holds the recipes of one entry point to what is promised of them."""

    kind = "recipes"
    recipes: ClassVar[str]
    """The entry point's name, with which the recipes' names begin."""

    def subject(self) -> RecipesSubject:
        """The recipes."""
        return RecipesSubject(self.recipes)
