"""The Hub's format in and out: config.json, safetensors, tokenizer files."""

from zoo.hub.loading import load
from zoo.hub.saving import save

__all__ = ["load", "save"]
