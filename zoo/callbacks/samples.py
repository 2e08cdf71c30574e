"""What the model writes, as it learns."""

from collections.abc import Sequence

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from zoo.errors import SpecError
from zoo.modules.generating import GeneratingModule


def require_sampling(max_new_tokens: int | None, temperature: float) -> None:
    """Refuses choices of sampling that cannot be followed when the time for a sample has come.

    Raises:
        SpecError: With the argument.
    """
    if max_new_tokens is not None and max_new_tokens < 1:
        raise SpecError(f"`max_new_tokens` must be at least 1, got {max_new_tokens}", at="max_new_tokens")
    if not temperature >= 0:
        raise SpecError(f"`temperature` must not be negative, got {temperature}", at="temperature")


class Samples(Callback):
    """Writes continuations of fixed prompts to TensorBoard after each validation.

    Args:
        prompts: Texts to continue.
        max_new_tokens: Length of a continuation; by default 64, or what the model's length leaves.
        temperature: 0 is greedy; above, tokens are drawn, with a fixed seed.
    """

    def __init__(
        self, prompts: Sequence[str], max_new_tokens: int | None = None, temperature: float = 0.0
    ) -> None:
        require_sampling(max_new_tokens, temperature)
        self.prompts = list(prompts)
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuses continuations that are too long before anything is trained."""
        if isinstance(pl_module, GeneratingModule):
            pl_module.require_room(self.prompts, self.max_new_tokens)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Generates and logs."""
        if trainer.sanity_checking or not isinstance(pl_module, GeneratingModule):
            return
        if not (trainer.is_global_zero or pl_module.device_mesh):  # those that share a model write together
            return
        texts = pl_module.generate(
            self.prompts, max_new_tokens=self.max_new_tokens, temperature=self.temperature, seed=0
        )
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for prompt, text in zip(self.prompts, texts, strict=True):
                    logger.experiment.add_text(
                        prompt.strip(), f"```\n{prompt}{text}\n```", trainer.global_step
                    )
