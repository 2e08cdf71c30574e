"""What the modules of all shapes share: building, optimisation, checkpoints that stand alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from zoo import registry
from zoo.errors import CheckpointError, SpecError, ZooError
from zoo.heads.base import Batch, Head, Metrics
from zoo.hub import config as hub_config
from zoo.hub import files, weights
from zoo.layers import initialize, materialize
from zoo.schedules import Constant, WarmupCosine
from zoo.specs import BackboneSpec, HeadSpec, HubModel, ScheduleSpec, Shape, from_plain
from zoo.tokenizer import Tokenizer
from zoo.training import optimization
from zoo.training.optimization import OptimizerFactory

Plain = Mapping[str, Any]
"""A spec as class path and plain values, as a checkpoint keeps it."""


@dataclass(frozen=True)
class Output:
    """What a forward pass gives, in the Hub's words."""

    last_hidden_state: Tensor
    """(batch, tokens, hidden_size)."""
    logits: Tensor
    """What the head makes of the hidden states."""
    loss: Tensor | None = None
    """Mean over all labels, where labels were given."""


class ZooModule(L.LightningModule):
    """One backbone, one head, the optimisation.

    The networks are built in `configure_model`, so a module is light until the Trainer, or `zoo.load`, asks.
    """

    shape: ClassVar[Shape]
    """The shape of backbone that the module trains."""

    backbone: nn.Module
    head: Head

    def __init__(
        self,
        backbone: HubModel | BackboneSpec | Plain,
        head: HeadSpec | Plain,
        optimizer: OptimizerFactory | Plain | None,
        lr_schedule: ScheduleSpec | Plain | None,
    ) -> None:
        super().__init__()
        self.source: HubModel | BackboneSpec = (
            from_plain(backbone) if isinstance(backbone, Mapping) else backbone
        )
        self.head_spec: HeadSpec = from_plain(head) if isinstance(head, Mapping) else head
        given = from_plain(lr_schedule) if isinstance(lr_schedule, Mapping) else lr_schedule
        self.lr_schedule: ScheduleSpec = given or WarmupCosine()
        chosen = optimization.from_plain(dict(optimizer)) if isinstance(optimizer, Mapping) else optimizer
        self.optimizer: OptimizerFactory = chosen or optimization.DEFAULT
        self.tokenizer: Tokenizer | None = None
        self.generation_config: dict[str, Any] = {}
        """What generation_config.json says."""
        self._spec: BackboneSpec | None = None
        self._evaluation: Metrics | None = None
        if isinstance(self.source, HubModel):
            self.save_hyperparameters({**self._choices(), "backbone": self.source.name})
        else:
            self.save_hyperparameters({**self._choices(), "backbone": self.source.to_plain()})

    def _choices(self) -> dict[str, Any]:
        return {
            "head": self.head_spec.to_plain(),
            "optimizer": optimization.to_plain(self.optimizer),
            "lr_schedule": self.lr_schedule.to_plain(),
        }

    # Building

    @property
    def is_built(self) -> bool:
        """Whether the networks exist."""
        return "backbone" in self._modules

    @property
    def spec(self) -> BackboneSpec:
        """The backbone's sizes; of a Hub model, what its config.json says."""
        if self._spec is None:
            if isinstance(self.source, HubModel):
                folder = files.folder_of(self.source, weights=False)
                self._spec = hub_config.spec_of(hub_config.read_config(folder), f"{folder / hub_config.FILE}")
            else:
                self._spec = self.source
            if self._spec.shape != self.shape:
                raise SpecError(
                    f"{registry.path_of(type(self))} trains a {self.shape}, "
                    f"{registry.path_of(type(self._spec))} is a {self._spec.shape}"
                )
            self.head_spec.require_fit(self._spec)
        return self._spec

    def configure_model(self) -> None:
        """Builds the networks, once; Lightning calls it before every fit, validate, test and predict."""
        self.build()

    def build(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> None:
        """Builds the networks, once, and fills them: from the Hub's files, or with fresh weights.

        Args:
            dtype: Of the parameters; by default torch's.
            device: By default torch's.
        """
        if self.is_built:
            return
        with torch.device("meta"):
            backbone, head = self.spec.build(), self.head_spec.build(self.spec)
        for part in (backbone, head):
            materialize(part.to(dtype), device)
        head.tie(backbone)
        self.backbone, self.head = backbone, head
        if isinstance(self.source, HubModel):
            self._fill_from(self.source)
        else:
            initialize(self, self.spec.initializer_range)

    def _fill_from(self, model: HubModel) -> None:
        folder = files.folder_of(model)
        weights.stream(folder, self.hub_tensors())
        self.adopt_tokenizer(self.own_tokenizer())
        if (folder / "generation_config.json").is_file():
            self.generation_config = hub_config.read_json(folder / "generation_config.json")

    def hub_tensors(self) -> dict[str, Tensor]:
        """Every saved tensor by its name on the Hub."""
        hub_head = self.spec.hub_head(type(self.head_spec).__name__)
        return {
            **weights.named_tensors(self.backbone, self.spec.weights, frozenset()),
            **weights.named_tensors(self.head, hub_head.weights, self.head.tied),
        }

    @property
    def brings_tokenizer(self) -> bool:
        """Whether there is a tokenizer that data must use."""
        return self.tokenizer is not None or isinstance(self.source, HubModel)

    def own_tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer; of a Hub model, before its weights are there."""
        if self.tokenizer is None and isinstance(self.source, HubModel):
            self.tokenizer = Tokenizer.from_folder(files.folder_of(self.source))
        return self.tokenizer

    def adopt_tokenizer(self, tokenizer: Tokenizer | None) -> None:
        """Makes a tokenizer the model's own.

        Raises:
            SpecError: It has more ids than the backbone has embeddings.
        """
        if tokenizer is not None and tokenizer.vocab_size > self.spec.vocab_size:
            raise SpecError(
                f"the tokenizer has {tokenizer.vocab_size} ids, "
                f"the backbone's vocab_size is {self.spec.vocab_size}",
                at="model.backbone.vocab_size",
                hint=f"set the backbone's vocab_size to at least {tokenizer.vocab_size}",
            )
        self.tokenizer = tokenizer

    # Training

    def hidden_states(self, batch: Batch) -> Tensor:
        """What the head reads: the backbone's hidden states of a batch."""
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of one batch."""
        loss = self.head.loss(self.hidden_states(batch), batch).mean
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def _start_evaluation(self) -> None:
        self._evaluation = self.head.metrics().to(self.device)

    def _evaluate(self, batch: Batch) -> None:
        assert self._evaluation is not None
        self._evaluation.update(self.head.loss(self.hidden_states(batch), batch), batch)

    def _log_evaluation(self, part: str) -> None:
        assert self._evaluation is not None
        for name, value in self._evaluation.compute().items():
            self.log(f"{part}/{name}", value, prog_bar=(part, name) == ("val", "loss"))

    def on_validation_epoch_start(self) -> None:
        """Starts the measures anew."""
        self._start_evaluation()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts one batch."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Logs the measures as `val/…`."""
        self._log_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Starts the measures anew."""
        self._start_evaluation()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts one batch."""
        self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        """Logs the measures as `test/…`."""
        self._log_evaluation("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The recipe's optimizer and schedule, stepped every optimizer step."""
        optimizer = self.optimizer(optimization.parameter_groups(self))
        num_steps = self.trainer.estimated_stepping_batches
        if num_steps == float("inf") and not isinstance(self.lr_schedule, Constant):
            raise ZooError(
                "a learning-rate schedule needs the length of the run",
                at="trainer.max_steps",
                hint="set trainer.max_steps or trainer.max_epochs, or lr_schedule: zoo.schedules.Constant",
            )
        scheduler = LambdaLR(optimizer, lambda step: self.lr_schedule.factor((step + 1) / max(num_steps, 1)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips as the Trainer says, under bf16-mixed with a fused optimizer, too.

        Lightning refuses that pair, as a fused optimizer unscales gradients itself; bfloat16 scales none.
        """
        if self.trainer.precision != "bf16-mixed" or gradient_clip_val is None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
        else:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    # Checkpoints stand alone: no recipe, no Hub, nothing pickled.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what `zoo.load` needs: the resolved spec, the tokenizer, the module's name."""
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = {**self._choices(), "backbone": self.spec.to_plain()}
        checkpoint["zoo"] = {
            "module": registry.path_of(type(self)),
            "tokenizer": self.tokenizer.to_plain() if self.tokenizer else None,
            "generation_config": self.generation_config,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back the tokenizer.

        Raises:
            CheckpointError: The data was read with another one.
        """
        saved = checkpoint.get("zoo", {})
        self.generation_config = saved.get("generation_config", {})
        if not saved.get("tokenizer"):
            return
        tokenizer = Tokenizer.from_plain(saved["tokenizer"])
        if self.tokenizer is not None and self.tokenizer.backend.to_str() != tokenizer.backend.to_str():
            raise CheckpointError(
                "the checkpoint's tokenizer is not the one that the data was read with",
                hint="use the data that it was trained on, or a checkpoint of this data",
            )
        self.tokenizer = tokenizer

    def expect(self, checkpoint: dict[str, Any]) -> None:
        """Takes sizes and tokenizer from a checkpoint that is to be restored.

        The weights of a Hub model are then not streamed first, and the Hub is not asked.
        """
        if isinstance(self.source, HubModel):
            self.source = from_plain(checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]["backbone"])
            self._spec = None
        self.on_load_checkpoint(checkpoint)
