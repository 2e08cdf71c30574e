"""The data by the zoo's conformance kit."""

from your_plugin.data import YourPlugin

from zoo.testing import DataConformance


class TestYourPlugin(DataConformance):
    data = YourPlugin
