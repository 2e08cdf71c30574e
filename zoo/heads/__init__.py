"""Heads, by name: `zoo.heads.CausalLM`."""

from zoo import registry

__getattr__, __dir__ = registry.namespace(__name__)
