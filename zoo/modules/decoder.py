"""Training a decoder, and continuing texts with it."""

from collections.abc import Sequence
from typing import ClassVar

from lightning.pytorch.cli import OptimizerCallable

from zoo.adapters import LoRA
from zoo.errors import GenerationError
from zoo.generation import Model, Settings
from zoo.heads.base import Head
from zoo.heads.causal_lm import CausalLM
from zoo.modules.generating import GeneratingModule
from zoo.specs import DecoderSpec, HeadSpec, HubModel, ScheduleSpec, Shape
from zoo.training.blocks import Checkpointing


class DecoderModule(GeneratingModule):
    """A decoder-only Transformer under one or several heads.

    Args:
        backbone: A Hub id, a folder in the Hub's format, or a family's sizes.
        head: What stands on it; by default a language model's.
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

    shape: ClassVar[Shape] = "decoder"

    def __init__(
        self,
        backbone: HubModel | DecoderSpec,
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
        head = CausalLM() if head is None and heads is None else head
        super().__init__(
            backbone, head, heads, optimizer, lr_schedule, compile, activation_checkpointing, adapter, freeze,
            layer_decay,
        )  # fmt: skip

    def model_under(self, head: Head) -> Model:
        """The backbone and a head as generation sees them."""
        return Model(hidden_states=self.backbone, logits=lambda hidden: head(hidden, {}), device=self.device)

    def before(self, prompt: list[int]) -> list[int]:
        """The prompt: some tokenizers drop the space that a text begins with."""
        return prompt

    def room(self, prompts: list[list[int]], max_new_tokens: int | None, settings: Settings) -> int:
        """How many tokens may follow: as many as were asked for, or as many as fit.

        Raises:
            GenerationError: The prompts, or they and what is asked for, are too long for the model.
        """
        limit, longest = self.spec.max_tokens, max(map(len, prompts), default=0)
        if longest >= limit or longest + (max_new_tokens or 0) > limit:
            new = f" and {max_new_tokens} new ones were asked for" if max_new_tokens else ""
            raise GenerationError(
                f"the model sees at most {limit} tokens; the prompt has {longest}{new}",
                hint=f"shorten the prompt, or ask for at most {limit - longest} new tokens"
                if longest < limit
                else "shorten the prompt",
            )
        default = settings.default_new_tokens(longest)
        return min(default, limit - longest) if max_new_tokens is None else max_new_tokens
