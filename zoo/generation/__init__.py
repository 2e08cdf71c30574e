"""Decoding: caches, samplers and the loop that joins them."""

from zoo.generation.batches import Batch, Model, compiled, fixed_step
from zoo.generation.beams import Beams, Hypothesis, search
from zoo.generation.caches import Cache, FixedCache, LayerCache, Source
from zoo.generation.choices import Choices
from zoo.generation.decoding import Decoding, Processor, Steps, decode, write
from zoo.generation.rows import Row, rows_of
from zoo.generation.samplers import Sampler
from zoo.generation.settings import Settings
from zoo.generation.speculation import Draft, PromptLookup, Speculation, speculate
from zoo.generation.stopping import RowText, Stopping

__all__ = [
    "Batch",
    "Beams",
    "Cache",
    "Choices",
    "Decoding",
    "Draft",
    "FixedCache",
    "Hypothesis",
    "LayerCache",
    "Model",
    "Processor",
    "PromptLookup",
    "Row",
    "RowText",
    "Sampler",
    "Settings",
    "Source",
    "Speculation",
    "Steps",
    "Stopping",
    "compiled",
    "decode",
    "fixed_step",
    "rows_of",
    "search",
    "speculate",
    "write",
]
