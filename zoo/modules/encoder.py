"""Training an encoder, and asking what it makes of texts."""

from collections.abc import Sequence
from typing import ClassVar

from lightning.pytorch.cli import OptimizerCallable

from zoo.adapters import LoRA
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
        adapter: What is trained in place of the backbone: a `LoRA`, or the folder or Hub id of one that was.
        freeze: Globs of names of parameters that stay as they are.
        layer_decay: What the learning rate of each block is multiplied by beside that of the next one.
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
        adapter: HubModel | LoRA | None = None,
        freeze: Sequence[str] = (),
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__(
            backbone, head, heads, optimizer, lr_schedule, compile, activation_checkpointing, adapter, freeze,
            layer_decay,
        )  # fmt: skip
