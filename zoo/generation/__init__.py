"""Decoding: caches, samplers and the loop that joins them."""

from zoo.generation.caches import Cache, LayerCache
from zoo.generation.decoding import Decoding, Processor, Step, Steps, decode
from zoo.generation.rows import Row, rows_of
from zoo.generation.samplers import Sampler

__all__ = [
    "Cache",
    "Decoding",
    "LayerCache",
    "Processor",
    "Row",
    "Sampler",
    "Step",
    "Steps",
    "decode",
    "rows_of",
]
