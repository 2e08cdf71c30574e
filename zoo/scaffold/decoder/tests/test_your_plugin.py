"""The family by the zoo's conformance kit."""

from your_plugin.model import YourPlugin

from zoo.testing import FamilyConformance


class TestYourPlugin(FamilyConformance):
    spec = YourPlugin
