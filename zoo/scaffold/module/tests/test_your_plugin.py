"""The module by the zoo's conformance kit."""

from your_plugin.module import YourPlugin

from zoo.testing import ModuleConformance


class TestYourPlugin(ModuleConformance):
    module = YourPlugin
