"""YourPlugin: a decoder's module whose hidden states get noise in training.

It works as it stands. To make it yours: override what a step does differently (`hidden_states`,
`training_step`, `configure_optimizers`); building, checkpoints, measures and writing come with the base.
"""

from typing import ClassVar

import torch
from torch import Tensor

from zoo.heads.base import Batch
from zoo.modules.decoder import DecoderModule


class YourPlugin(DecoderModule):
    """A decoder trained under noise."""

    noise: ClassVar[float] = 0.1
    """Standard deviation of the noise, as a share of the hidden states'."""

    def hidden_states(self, batch: Batch) -> Tensor:
        """What the head reads, with noise in training."""
        hidden = super().hidden_states(batch)
        return (
            hidden + self.noise * hidden.detach().std() * torch.randn_like(hidden)
            if self.training
            else hidden
        )
