"""What training takes beside the Trainer; `zoo.training.Muon` is for recipes."""

from zoo.training.muon import Muon

__all__ = ["Muon"]
