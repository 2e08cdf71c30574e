"""What training takes beside the Trainer; `zoo.training.Float8` and `Muon` are for recipes."""

from zoo.training.float8 import Float8
from zoo.training.muon import Muon

__all__ = ["Float8", "Muon"]
