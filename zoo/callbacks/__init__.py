"""Lightning callbacks, by name: `zoo.callbacks.Throughput`."""

from zoo import registry

__getattr__, __dir__ = registry.namespace(__name__)
