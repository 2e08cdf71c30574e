"""Training an encoder, and asking what it makes of texts."""

from typing import ClassVar

from lightning.pytorch.cli import OptimizerCallable

from zoo.modules.base import ZooModule
from zoo.specs import EncoderSpec, HeadSpec, HubModel, ScheduleSpec, Shape
from zoo.training.blocks import Checkpointing


class EncoderModule(ZooModule):
    """An encoder-only Transformer under one or several heads.

    Args:
        backbone: A Hub id, a folder in the Hub's format, or a family's sizes.
        head: What stands on it.
        heads: Several heads by name, in place of one; each batch names its head.
        optimizer: By default AdamW at 3e-4; norms and biases never decay.
        lr_schedule: By default a linear warm-up, then a cosine.
        compile: Whether the backbone's blocks are compiled for training.
        activation_checkpointing: What the backward pass computes again in place of keeping it: `none`, whole
            blocks (`block`), or of blocks all but products and attention (`selective`).
    """

    shape: ClassVar[Shape] = "encoder"

    def __init__(
        self,
        backbone: HubModel | EncoderSpec,
        head: HeadSpec | None = None,
        heads: dict[str, HeadSpec] | None = None,
        optimizer: OptimizerCallable | None = None,
        lr_schedule: ScheduleSpec | None = None,
        compile: bool = False,
        activation_checkpointing: Checkpointing = "none",
    ) -> None:
        super().__init__(backbone, head, heads, optimizer, lr_schedule, compile, activation_checkpointing)
