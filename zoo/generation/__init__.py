"""Decoding: caches, samplers and the loop that joins them."""

from zoo.generation.caches import Cache, LayerCache
from zoo.generation.decoding import Decoding, decode
from zoo.generation.samplers import Sampler

__all__ = ["Cache", "Decoding", "LayerCache", "Sampler", "decode"]
