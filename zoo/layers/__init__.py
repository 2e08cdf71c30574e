"""Parts that families share. A layer moves here when a second family needs it.

Local tensors end in their shape: B batch, T tokens that ask, S tokens that are asked, D hidden_size,
H heads of queries, G heads of keys and values, K head_dim, F intermediate_size, V vocab_size, N rows that
carry a label. Of experts: E all, C those that a token goes through, N tokens, R tokens times C.
"""

from zoo.layers.attention import Attention, CrossAttention, HeadAttention, KeyValueCache, NormedAttention
from zoo.layers.feedforward import ACTIVATIONS, FeedForward, GatedFeedForward
from zoo.layers.initialization import fill, fill_row, initialize, materialize, part_of, without_memory
from zoo.layers.kernels import Weights, attend, attention_weights
from zoo.layers.linear import Linear, product
from zoo.layers.losses import IGNORED, WithLoss, capped, linear_cross_entropy
from zoo.layers.masks import Mask
from zoo.layers.moe import Experts, Router, Routing, SparseFeedForward, balance_loss, num_idle
from zoo.layers.norms import RMSNorm
from zoo.layers.positions import (
    RelativePositions,
    Rope,
    RopeByLayerType,
    RopeParameters,
    RotaryPositions,
    SinusoidalPositions,
)
from zoo.layers.transforms import DenseDropout, DenseNorm

__all__ = [
    "ACTIVATIONS",
    "IGNORED",
    "Attention",
    "CrossAttention",
    "DenseDropout",
    "DenseNorm",
    "Experts",
    "FeedForward",
    "GatedFeedForward",
    "HeadAttention",
    "KeyValueCache",
    "Linear",
    "Mask",
    "NormedAttention",
    "RMSNorm",
    "RelativePositions",
    "Rope",
    "RopeByLayerType",
    "RopeParameters",
    "RotaryPositions",
    "Router",
    "Routing",
    "SinusoidalPositions",
    "SparseFeedForward",
    "Weights",
    "WithLoss",
    "attend",
    "attention_weights",
    "balance_loss",
    "capped",
    "fill",
    "fill_row",
    "initialize",
    "linear_cross_entropy",
    "materialize",
    "num_idle",
    "part_of",
    "product",
    "without_memory",
]
