"""Decoder families, by name: `zoo.decoders.Llama`."""

from zoo import registry

__getattr__, __dir__ = registry.namespace(__name__)
