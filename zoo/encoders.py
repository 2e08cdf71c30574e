"""Encoder families, by name: `zoo.encoders.Bert`."""

from zoo import registry

__getattr__, __dir__ = registry.namespace(__name__)
