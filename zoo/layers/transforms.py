"""What stands between hidden states and a head's projection."""

from torch import Tensor, nn

from zoo.layers.feedforward import ACTIVATIONS
from zoo.layers.linear import Linear


class DenseNorm(nn.Module):
    """A layer of its own, bent and normed: BERT's code before its vocabulary.

    Args:
        hidden_size: Width of the hidden states.
        activation: A name of `ACTIVATIONS`.
        norm: What norms in the end.
        bias: Whether the layer has a bias.
        output_size: Width of what comes out; by default hidden_size.
    """

    def __init__(
        self,
        hidden_size: int,
        activation: str,
        norm: nn.Module,
        *,
        bias: bool = True,
        output_size: int | None = None,
    ) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, output_size or hidden_size, bias=bias)
        self.activation = ACTIVATIONS[activation]
        self.norm = norm

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, hidden_size) to (…, output_size)."""
        output: Tensor = self.norm(self.activation(self.dense(hidden)))
        return output


class DenseDropout(nn.Module):
    """A layer of its own between dropouts, before labels.

    Args:
        hidden_size: Width of the hidden states.
        dropout: Probability of dropping a channel after the layer, in training.
        first_dropout: The same before it; by default as after it.
        activation: A name of `ACTIVATIONS`.
    """

    def __init__(
        self,
        hidden_size: int,
        dropout: float,
        *,
        first_dropout: float | None = None,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        self.first_dropout = nn.Dropout(dropout if first_dropout is None else first_dropout)
        self.dense = Linear(hidden_size, hidden_size)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, hidden_size) in and out."""
        output: Tensor = self.dropout(self.activation(self.dense(self.first_dropout(hidden))))
        return output
