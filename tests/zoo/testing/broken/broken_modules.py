"""LightningModules of which each breaks one promise, named after the check that notices it."""

from typing import Any

import sound_module
import torch
from torch import nn

Module = sound_module.YourPlugin


class Silent(Module):
    """Says of an argument not what it is."""

    def __init__(self, backbone: Any, mystery: int = 3) -> None:
        super().__init__(backbone)


class Heavy(Module):
    def __init__(self, *arguments: Any, **choices: Any) -> None:
        super().__init__(*arguments, **choices)
        self.extra = nn.Linear(2, 2)


class Indifferent(Module):
    """Takes a backbone of any shape."""

    spec = property(lambda self: self.source)


class Drifting(Module):
    """Comes back with twice the noise."""

    def __init__(self, *arguments: Any, noise: float = 0.1, **choices: Any) -> None:
        super().__init__(*arguments, **choices)
        self.noise = 2 * noise

    def described(self) -> dict[str, Any]:
        return {**super().described(), "noise": self.noise}


class Amnesic(Module):
    """Its checkpoints hold other weights than it has."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        weights = checkpoint["state_dict"].items()
        checkpoint["state_dict"] = {name: torch.zeros_like(tensor) for name, tensor in weights}


BROKEN = {
    "every_argument_is_documented": (Silent, r"nothing says what these are: mystery"),
    "it_is_light_until_it_is_built": (Heavy, r"it has parameters before `configure_model`"),
    "other_shapes_are_refused": (Indifferent, r"it takes a backbone of the shape encoder"),
    "plain_values_make_it_again": (Drifting, r"it comes back from its plain values otherwise"),
    "a_checkpoint_stands_alone": (Amnesic, r"`backbone.embedding.weight` comes back otherwise"),
}
"""By the check: a module, and what is said of it."""
