"""Encoder-decoder families, by name: `zoo.encoder_decoders.T5`."""

from zoo import registry

__getattr__, __dir__ = registry.namespace(__name__)
