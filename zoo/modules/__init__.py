"""LightningModules, by name: `zoo.modules.DecoderModule`."""

from zoo import registry

__getattr__, __dir__ = registry.namespace(__name__)
