"""Adapters: few numbers that are trained in place of a model's many; PEFT's, in PEFT's format."""

from zoo.adapters.lora import LoRA

__all__ = ["LoRA"]
