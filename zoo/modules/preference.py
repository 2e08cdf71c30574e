"""Training a decoder on pairs of answers, beside what a reference holds of them."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from zoo import hub
from zoo.errors import CheckpointError, SpecError
from zoo.heads.base import Batch
from zoo.heads.causal_lm import CausalLMHead
from zoo.heads.preference import Preference
from zoo.layers import IGNORED
from zoo.modules.base import evaluating
from zoo.modules.decoder import DecoderModule
from zoo.specs import DecoderSpec, HubModel, ScheduleSpec
from zoo.training.blocks import Checkpointing

TABLE = "reference_log_probs"
"""Where a checkpoint keeps what the reference holds of each pair."""


class PreferenceModule(DecoderModule):
    """A decoder that learns which of two answers is better.

    Most objectives compare it with a reference. How likely that holds every answer is computed once, before
    training, and kept in checkpoints: the reference then takes neither memory nor time.

    Args:
        backbone: A Hub id, a folder in the Hub's format, or a family's sizes.
        head: The objective; by default direct preference optimization.
        reference: A Hub id or folder of the model to be compared with; by default the one that training
            begins with.
        precompute: Whether the reference is asked once; otherwise `reference` stays in memory.
        optimizer: By default AdamW at 3e-4; norms and biases never decay.
        lr_schedule: By default a linear warm-up, then a cosine.
        compile: Whether the backbone's blocks are compiled for training.
        activation_checkpointing: What the backward pass computes again in place of keeping it: `none`, whole
            blocks (`block`), or of blocks all but products and attention (`selective`).
    """

    expected_failures: ClassVar[Mapping[str, str]] = {
        "a_checkpoint_stands_alone": "it learns from pairs of rows, and is given three"
    }

    def __init__(
        self,
        backbone: HubModel | DecoderSpec,
        head: Preference | None = None,
        reference: HubModel | None = None,
        precompute: bool = True,
        optimizer: OptimizerCallable | None = None,
        lr_schedule: ScheduleSpec | None = None,
        compile: bool = False,
        activation_checkpointing: Checkpointing = "none",
    ) -> None:
        super().__init__(
            backbone, head or Preference(), None, optimizer, lr_schedule, compile, activation_checkpointing
        )
        if not precompute and reference is None:
            raise SpecError(
                "`precompute: false` keeps a reference in memory, and none is named",
                at="model.reference",
                hint="set it to the folder or Hub id that training begins with, or leave precompute out",
            )
        # How it is trained, not what it is: no part of a checkpoint.
        self.reference, self.precompute = reference, precompute
        self._table: dict[str, Any] | None = None
        self._kept: list[DecoderModule] = []  # not among the module's own parts, which are trained and saved

    @property
    def objective(self) -> Preference:
        """The head's spec."""
        (spec,) = self.head_specs.values()
        assert isinstance(spec, Preference)
        return spec

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch's share of the step's loss, beside what the reference holds of its pairs."""
        return super().training_step(self._beside(batch), batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Counts one batch, beside what the reference holds of its pairs."""
        return super().validation_step(self._beside(batch), batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Counts one batch, beside what the reference holds of its pairs."""
        return super().test_step(self._beside(batch), batch_idx)

    def _beside(self, batch: Batch) -> Batch:
        return (
            {**batch, "reference": self.reference_log_probs(batch)} if self.objective.has_reference else batch
        )

    def reference_log_probs(self, batch: Batch) -> Tensor:
        """How likely the reference holds each answer, (answers, pairs)."""
        if self._kept:
            return self.log_probs_of(self._kept[0], batch)
        assert self._table is not None, "the reference was not asked"
        table: Tensor = self._table["log_probs"].to(self.device)
        self._table["log_probs"] = table
        return table[batch["numbers"]].T

    @torch.no_grad()
    def log_probs_of(self, model: DecoderModule, batch: Batch) -> Tensor:
        """How likely a model holds each answer, (answers, pairs)."""
        head = model.head()
        assert isinstance(head, CausalLMHead)
        with evaluating(model):
            told_BT = head.log_probs(model.hidden_states(batch), batch["labels"])
        return told_BT.sum(-1).view(self.objective.answers, -1)

    def on_fit_start(self) -> None:
        """Asks the reference about every pair, once."""
        self._ask()

    def on_validation_start(self) -> None:
        """Asks the reference, where there was no training before."""
        self._ask()

    def on_test_start(self) -> None:
        """Asks the reference, where there was no training before."""
        self._ask()

    def _ask(self) -> None:
        if not self.objective.has_reference:
            return
        if not self.precompute:
            self._kept = self._kept or [self._loaded()]
            return
        data: Any = getattr(self.trainer, "datamodule", None)
        if not hasattr(data, "numbered"):
            raise SpecError(
                "the reference is asked in advance about the pairs of zoo.data.Preferences alone",
                at="model.precompute",
                hint="set precompute: false and name a reference",
            )
        fingerprint = f"{data.fingerprint} {self.objective.answers}"
        if self._table is None:
            self._table = {"of": fingerprint, "log_probs": self._computed(data)}
        elif self._table["of"] != fingerprint:
            raise CheckpointError(
                "the checkpoint keeps what the reference holds of other pairs than these",
                hint="use the data that it was trained on; or export it, and train that model on",
            )

    def _computed(self, data: Any) -> Tensor:
        model = self if self.reference is None else self._loaded()
        shape = len(data.all_pairs), self.objective.answers
        table = torch.full(shape, float("-inf"), device=self.device)
        with self.trainer.precision_plugin.forward_context():
            for batch in data.numbered():
                batch = move_data_to_device(batch, self.device)
                found = self.log_probs_of(model, batch).T
                if (
                    batch["labels"] != IGNORED
                ).any():  # or it fills up what this process has less than others
                    table[batch["numbers"]] = found
        return torch.as_tensor(self.trainer.strategy.reduce(table, reduce_op="max"))

    def _loaded(self) -> DecoderModule:
        """The reference from its files.

        Raises:
            SpecError: It is no decoder, or reads texts otherwise.
        """
        assert self.reference is not None
        loaded = hub.load(self.reference.name, device=self.device)
        mine, its = self.tokenizer, loaded.tokenizer
        same = mine is not None and its is not None and mine.backend.to_str() == its.backend.to_str()
        if not isinstance(loaded, DecoderModule) or not same:
            raise SpecError(
                f"the reference {self.reference.name} reads texts otherwise than the model",
                at="model.reference",
                hint="give the model that training begins with, or one of its tokenizer",
            )
        return loaded.requires_grad_(False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what the reference holds of the pairs, so that a run goes on without it."""
        super().on_save_checkpoint(checkpoint)
        if self._table is not None:
            checkpoint[TABLE] = {**self._table, "log_probs": self._table["log_probs"].cpu()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back the tokenizer, and what the reference holds of the pairs."""
        super().on_load_checkpoint(checkpoint)
        self._table = checkpoint.get(TABLE)
