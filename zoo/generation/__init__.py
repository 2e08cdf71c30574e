"""Decoding: caches, samplers and the loop that joins them."""

from zoo.generation.batches import Batch, Model
from zoo.generation.caches import Cache, LayerCache, Source
from zoo.generation.decoding import Decoding, Processor, Steps, decode
from zoo.generation.rows import Row, rows_of
from zoo.generation.samplers import Sampler

__all__ = [
    "Batch",
    "Cache",
    "Decoding",
    "LayerCache",
    "Model",
    "Processor",
    "Row",
    "Sampler",
    "Source",
    "Steps",
    "decode",
    "rows_of",
]
