"""The head by the zoo's conformance kit."""

from your_plugin.head import YourPlugin

from zoo.testing import HeadConformance


class TestYourPlugin(HeadConformance):
    head = YourPlugin
