"""LightningDataModules, by name: `zoo.data.Text`."""

from zoo import registry

__getattr__, __dir__ = registry.namespace(__name__)
