"""Parts that families share. A layer moves here when a second family needs it.

Local tensors end in their shape: B batch, T tokens that ask, S tokens that are asked, D hidden_size,
H heads of queries, G heads of keys and values, K head_dim, F intermediate_size, V vocab_size, N rows that
carry a label.
"""

from zoo.layers.attention import Attention, CrossAttention, HeadAttention, KeyValueCache
from zoo.layers.feedforward import ACTIVATIONS, FeedForward, GatedFeedForward
from zoo.layers.initialization import fill, initialize, materialize, part_of
from zoo.layers.kernels import attend
from zoo.layers.linear import Linear, product
from zoo.layers.losses import IGNORED, capped, linear_cross_entropy
from zoo.layers.masks import Mask
from zoo.layers.norms import RMSNorm
from zoo.layers.positions import (
    RelativePositions,
    Rope,
    RopeByLayerType,
    RopeParameters,
    RotaryPositions,
    SinusoidalPositions,
)
from zoo.layers.transforms import DenseNorm, DenseTanh

__all__ = [
    "ACTIVATIONS",
    "IGNORED",
    "Attention",
    "CrossAttention",
    "DenseNorm",
    "DenseTanh",
    "FeedForward",
    "GatedFeedForward",
    "HeadAttention",
    "KeyValueCache",
    "Linear",
    "Mask",
    "RMSNorm",
    "RelativePositions",
    "Rope",
    "RopeByLayerType",
    "RopeParameters",
    "RotaryPositions",
    "SinusoidalPositions",
    "attend",
    "capped",
    "fill",
    "initialize",
    "linear_cross_entropy",
    "materialize",
    "part_of",
    "product",
]
