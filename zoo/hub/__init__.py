"""The Hub's format in and out: config.json, safetensors, tokenizer files; and the Hub itself."""

from zoo.hub.loading import load
from zoo.hub.pulling import pull
from zoo.hub.pushing import push
from zoo.hub.saving import save

__all__ = ["load", "pull", "push", "save"]
