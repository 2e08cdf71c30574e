"""What the modules of all shapes share: building, optimisation, checkpoints that stand alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo import registry
from zoo.adapters import LoRA, files, layers
from zoo.adapters.quantized import quantize
from zoo.errors import CheckpointError, GenerationError, SpecError, ZooError, did_you_mean, with_article
from zoo.generation.settings import FILE as GENERATION_FILE
from zoo.heads.base import Batch, Head, Look, Loss, Metrics
from zoo.hub import config as hub_config
from zoo.hub import filling, names, pulling, weights
from zoo.hub.telling import tell
from zoo.layers import Mask, WithLoss, initialize, materialize, without_memory
from zoo.schedules import Constant, WarmupCosine
from zoo.specs import BackboneSpec, HeadSpec, HubHead, HubModel, ScheduleSpec, Shape, from_plain, make, plain
from zoo.tokenizer import Tokenizer
from zoo.training import blocks, clipping, freezing, optimization, restoring, sharding
from zoo.training.blocks import Checkpointing
from zoo.training.float8 import Float8
from zoo.training.normalization import LabelMean
from zoo.training.optimization import OptimizerFactory
from zoo.training.pace import Pace
from zoo.training.recording import Recording
from zoo.training.restoring import Schedule
from zoo.training.resuming import ExactResume
from zoo.training.skipping import SkippedRows

Plain = Mapping[str, Any]
"""A spec as class path and plain values, as a checkpoint keeps it."""

ONLY = "head"
"""The name of a head that stands alone."""

ADAPTER = "default"
"""The name of an adapter that has no other, as PEFT has it."""


def _named(
    head: HeadSpec | Plain | None, heads: Mapping[str, HeadSpec | Plain] | None
) -> dict[str, HeadSpec]:
    if head is not None and heads:
        raise SpecError("a model takes `head` or `heads`, got both", at="heads")
    given = {ONLY: head} if head is not None else dict(heads or {})
    if not given and heads is None:
        raise SpecError("a model needs a head", at="head")
    for name in given:
        if not name.isidentifier() or hasattr(nn.ModuleDict(), name):
            raise SpecError(f"a head cannot be named `{name}`", at=f"heads.{name}")
    return {name: from_plain(value) if isinstance(value, Mapping) else value for name, value in given.items()}


def _place(head: str) -> str:
    """Where a recipe names a head."""
    return "model.head" if head == ONLY else f"model.heads.{head}"


@contextmanager
def _placed(head: str) -> Iterator[None]:
    """Says which head it is against one of whose arguments something is said."""
    try:
        yield
    except SpecError as error:
        error.at = f"{_place(head)}.{error.at}" if error.at else _place(head)
        raise


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Leaves each part in the mode in which it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@dataclass(frozen=True)
class Output:
    """What a forward pass gives, in the Hub's words."""

    last_hidden_state: Tensor
    """(batch, tokens, hidden_size)."""
    logits: Tensor | None
    """What the head makes of the hidden states; None where there is no head."""
    loss: Tensor | None = None
    """Mean over all labels, where labels were given."""


class ZooModule(L.LightningModule):
    """One backbone, one or several heads, the optimisation.

    The networks are built in `configure_model`, so a module is light until the Trainer, or `zoo.load`, asks.
    """

    tells_gradient_norm = True
    """To every `GradientWatcher`, when gradients are clipped."""
    shape: ClassVar[Shape]
    """The shape of backbone that the module trains."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """What of a batch every backbone of this shape takes besides ids and mask."""
    predicted_at_once: ClassVar[int] = 32
    """Texts that `predict` reads at once."""

    backbone: nn.Module
    heads: nn.ModuleDict

    def __init__(
        self,
        backbone: HubModel | BackboneSpec | Plain,
        head: HeadSpec | Plain | None,
        heads: Mapping[str, HeadSpec | Plain] | None,
        optimizer: OptimizerFactory | Plain | None,
        lr_schedule: ScheduleSpec | Plain | None,
        compile: bool = False,
        activation_checkpointing: Checkpointing = "none",
        adapter: HubModel | LoRA | Plain | None = None,
        freeze: Sequence[str] = (),
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__()
        self.source: HubModel | BackboneSpec = (
            from_plain(backbone) if isinstance(backbone, Mapping) else backbone
        )
        self.head_specs: dict[str, HeadSpec] = _named(head, heads)
        given = from_plain(lr_schedule) if isinstance(lr_schedule, Mapping) else lr_schedule
        self.lr_schedule: ScheduleSpec = given or WarmupCosine()
        chosen = optimization.from_plain(dict(optimizer)) if isinstance(optimizer, Mapping) else optimizer
        self.optimizer: OptimizerFactory = chosen or optimization.DEFAULT
        self.adapter: HubModel | LoRA | None = (
            make(LoRA, adapter) if isinstance(adapter, Mapping) else adapter
        )
        self.frozen, self.layer_decay = list(freeze or ()), freezing.require_decay(layer_decay)
        # How it is computed, not what: no part of a checkpoint.
        self.compiles, self.activation_checkpointing = compile, blocks.checked(activation_checkpointing)
        self.tokenizer: Tokenizer | None = None
        self.generation_config: dict[str, Any] = {}
        """What generation_config.json says."""
        self.origin: str | None = None
        """The Hub id and commit of the weights that it started from, if any: `owner/name@commit`."""
        self._spec: BackboneSpec | None = None
        self._evaluation: dict[str, Metrics] = {}
        self._losses: list[Tensor] | None = None
        self._label_mean = LabelMean()
        self._pace = Pace()
        if isinstance(self.source, HubModel):
            self.save_hyperparameters({**self._choices(), "backbone": self.source.name})
        else:
            self.save_hyperparameters({**self._choices(), "backbone": self.source.to_plain()})

    def _choices(self) -> dict[str, Any]:
        heads = {name: spec.to_plain() for name, spec in self.head_specs.items()}
        adapter = self.adapter.name if isinstance(self.adapter, HubModel) else plain(self.adapter)
        sharing = {"adapter": adapter, "freeze": self.frozen}
        return {
            **({"head": heads[ONLY]} if heads.keys() == {ONLY} else {"heads": heads}),
            **{name: value for name, value in sharing.items() if value},
            **({"layer_decay": self.layer_decay} if self.layer_decay < 1 else {}),
            "optimizer": optimization.to_plain(self.optimizer),
            "lr_schedule": self.lr_schedule.to_plain(),
        }

    def described(self) -> dict[str, Any]:
        """Arguments that make the same module again, as plain values; of a Hub model, by its sizes."""
        return {**self._choices(), "backbone": self.spec.to_plain()}

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
                self.source = pulling.pinned(self.source)
                self.origin = None if self.source.is_folder else self.source.name
                folder = pulling.folder_of(self.source, weights=False)
                self._spec = hub_config.spec_of(hub_config.read_config(folder), f"{folder / hub_config.FILE}")
            else:
                self._spec = self.source
            if self._spec.shape != self.shape:
                raise SpecError(
                    f"{registry.path_of(sharding.own_class(self))} trains {with_article(self.shape)}, "
                    f"{registry.path_of(type(self._spec))} is {with_article(self._spec.shape)}",
                    at="model.backbone",
                )
            for name, head in self.head_specs.items():
                head.require_fit(self._spec, at=_place(name))
        return self._spec

    def configure_model(self) -> None:
        """Builds the networks, once; Lightning calls it before every fit, validate, test and predict.

        Raises:
            SpecError: There is no head to train.
        """
        if not self.head_specs:
            raise SpecError("a model needs a head", at="model.head")
        trainer = self._attached()
        if trainer is not None and trainer.world_size > 1:
            self._agree(trainer)
        self.build(trains=trainer is not None and trainer.state.fn == "fit")

    def _attached(self) -> L.Trainer | None:
        try:
            return self.trainer
        except RuntimeError:  # there is none
            return None

    def _agree(self, trainer: L.Trainer) -> None:
        """Has every process take the commit that the first one found."""
        if isinstance(self.source, HubModel) and self.spec:
            name = trainer.strategy.broadcast(self.source.name)
            if name != self.source.name:
                self.source, self._spec = HubModel(name), None

    def configure_callbacks(self) -> list[L.Callback]:
        """Every Trainer's runs can be resumed exactly, and tell what they did and what they left out."""
        return [ExactResume(), SkippedRows(), Recording()]

    def networks(self) -> tuple[nn.Module, nn.ModuleDict]:
        """A new backbone and its heads, without weights of their own choosing."""
        backbone = self.spec.build()
        heads = nn.ModuleDict()
        for name, spec in self.head_specs.items():
            with _placed(name):
                head = spec.build(self.spec)
            head.tie(backbone)
            heads[name] = head
        return backbone, heads

    def build(
        self,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        *,
        trains: bool = False,
    ) -> None:
        """Builds the networks, once, and fills them: from the Hub's files, or with fresh weights.

        Args:
            dtype: Of the parameters; by default torch's.
            device: By default torch's.
            trains: Whether heads that the Hub's files lack start with fresh weights.
        """
        if self.is_built:
            return
        with without_memory():
            backbone, heads = self.networks()
        stored = self._stored_dtype() if self._quantization else dtype
        self.backbone, self.heads = backbone.to(stored), heads.to(stored)
        if self.device_mesh is not None:
            if self.adapter is not None:
                raise SpecError(
                    "processes that share a model train no adapter",
                    at="trainer.strategy",
                    hint="use strategy: ddp, in which each has all of it",
                )
            device = self.device_mesh.device_type
            self._convert()
            sharding.spread(self, self.device_mesh, sharding.gathered_in(self.trainer))
        plan = self._plan(self.source, trains=trains) if isinstance(self.source, HubModel) else None
        # Under an adapter all but what is written stays as it is; pages that are written are then copied.
        stays = self.adapter is not None or not trains
        if plan is not None and plan.can_map and stays and self._is_in_memory(device):
            filling.map_files(self, plan)
            self._tie()
        else:
            materialize(self, device)
            self._tie()
            if plan is None:
                initialize(self, self.spec.initializer_range)
            else:
                filling.fill(self, plan)
        if plan is not None:
            self._read_beside(plan.folder)
        trained, every = self._adapt(dtype)
        if trains and trained < every:
            tell(f"trains {trained:,} of {every:,} parameters ({trained / every:.2%})")
        blocks.speed_up(self.backbone, self.compiles, self.activation_checkpointing)

    @property
    def _quantization(self) -> str | None:
        return self.adapter.quantization if isinstance(self.adapter, LoRA) else None

    def _stored_dtype(self) -> torch.dtype | None:
        """That of a Hub model's files: what is quantized is not made wider before."""
        is_hub = isinstance(self.source, HubModel)
        return weights.dtype_of(pulling.folder_of(self.source)) if is_hub else None  # type: ignore[arg-type]

    def _adapt(self, dtype: torch.dtype | None) -> tuple[int, int]:
        """Puts the adapter beside the backbone; tells what `restrain` does."""
        if self.adapter is not None:
            layers.make_linear(self.backbone)
        if self._quantization:
            for name in [name for name, _ in layers.projections(self.backbone)]:
                part = self.backbone.get_submodule(name)
                self.backbone.set_submodule(name, quantize(part, self._quantization))
            self.to(dtype or torch.get_default_dtype())
        if isinstance(self.adapter, HubModel):
            self.load_adapter(self.adapter.name)
        return self.restrain()

    def restrain(self) -> tuple[int, int]:
        """Has the networks trained as `adapter` and `freeze` say; they need no memory.

        Returns:
            How many numbers are trained, and how many there are.
        """
        if isinstance(self.adapter, LoRA):
            if not self.adapters:
                found = layers.targets(self.backbone, self.spec.weights, self.adapter.target_modules)
                layers.inject(self.backbone, self.adapter, ADAPTER, found)
            self._freeze_base()
        freezing.freeze(self, self.frozen)
        return freezing.trained_share(self)

    def _freeze_base(self) -> None:
        for name in self.heads:
            if self.head(name).stays:
                self.heads[name].requires_grad_(False)

    def _convert(self) -> None:
        """Has projections computed in float8 before they are spread, where that is the precision."""
        if isinstance(precision := self.trainer.precision_plugin, Float8):
            if self.device_mesh is not None and self.device_mesh["tensor_parallel"].size() > 1:
                raise SpecError(
                    "zoo.training.Float8 divides no layers",
                    at="trainer.plugins",
                    hint="set trainer.strategy's tensor_parallel_size to 1, or use bf16-mixed",
                )
            precision.convert_module(self)

    def _plan(self, model: HubModel, *, trains: bool) -> filling.Plan:
        """Refuses files that do not fit before memory is taken; the module is then as it was."""
        try:
            return filling.plan(self, pulling.folder_of(model), trains=trains)
        except BaseException:
            del self.backbone, self.heads
            raise

    def _is_in_memory(self, device: torch.device | str | None) -> bool:
        """Whether the parameters are to stand, whole, where the processor reads them."""
        return self.device_mesh is None and torch.device(device or torch.get_default_device()).type == "cpu"

    def _tie(self) -> None:
        for name in self.heads:
            self.head(name).tie(self.backbone)

    def _read_beside(self, folder: Path) -> None:
        """What stands beside the weights: the tokenizer, generation_config.json."""
        self.adopt_tokenizer(self.own_tokenizer())
        if (folder / GENERATION_FILE).is_file():
            saved = hub_config.read_json(folder / GENERATION_FILE)
            self.generation_config = {**saved, **self.generation_config}  # data says a language before

    def hub_head(self, name: str) -> HubHead:
        """How the head of this name stands in the family's files on the Hub."""
        return self.head_specs[name].hub_head(self.spec)

    def hub_tensors(self, head: str | None = None, *, gradients: bool = False) -> dict[str, Tensor]:
        """Every saved tensor of the backbone and of one head, if there is any, by its name on the Hub.

        Args:
            head: Its name, where there are several.
            gradients: In place of tensors, those that they have.
        """
        take = names.gradient_of if gradients else names.whole_or_row
        backbone = names.named_tensors(self.backbone, self.spec.weights, take=take)
        name = self.head_name(head) if self.head_specs else None
        found = {self.in_files(hub, name): tensor for hub, tensor in backbone.items()}
        if name is None:
            return found
        hub_head = self.hub_head(name)
        return {
            **found,
            **names.named_tensors(self.heads[name], hub_head.weights, self.head(name).not_in_files, take),
        }

    def in_files(self, name: str, head: str | None) -> str:
        """What files with this head, or without any, call what the family's table calls so."""
        if head is None:
            return name.removeprefix(self.spec.prefix)
        hub_head = self.hub_head(head)
        return f"{hub_head.prefix}{name.removeprefix(self.spec.prefix if hub_head.is_bare else '')}"

    # Adapters

    def load_adapter(self, adapter: str | Path, name: str = ADAPTER, head: str | None = None) -> None:
        """Adds an adapter in PEFT's format, which is then in use; those that were there stay, unused.

        Args:
            adapter: A folder, or `owner/name[@revision]` on the Hub.
            name: What it is called here.
            head: Of several, the one whose weights the files hold.

        Raises:
            CheckpointError: It is not to be had, or is for another base.
            ZooError: There is one of this name, or the extra `peft` is not installed.
        """
        if name in self.adapters:
            raise ZooError(f"the model has an adapter `{name}` already", hint="load it under another name")
        self.build()
        chosen = self.head_name(head) if self.head_specs else None
        lora = files.load(self, files.fetched(adapter), name, chosen)
        if self.adapter is None or isinstance(self.adapter, HubModel):
            self.adapter = lora
        self._freeze_base()
        self.set_adapter(name)

    def save_adapter(self, folder: str | Path, name: str = ADAPTER, head: str | None = None) -> Path:
        """Writes an adapter in PEFT's format, with the head that is trained beside it.

        Raises:
            ZooError: There is none of this name.
        """
        self._require_adapter(name)
        return files.save(self, folder, name, self.head_name(head) if self.head_specs else None)

    @property
    def adapters(self) -> list[str]:
        """The names of the adapters that it has."""
        return list(getattr(self.backbone, "peft_config", {})) if self.is_built else []

    def set_adapter(self, name: str | None) -> None:
        """Has one of its adapters in use, alone; None: none.

        Raises:
            ZooError: There is none of this name.
        """
        if name is not None:
            self._require_adapter(name)
        layers.choose(self.backbone, name)

    def without_adapter(self) -> AbstractContextManager[None]:
        """The model as it was before adapters were added, within a `with`."""
        return layers.without(self.backbone)

    def merged(self) -> Self:
        """The same model with the adapter in use added to its weights; it shares all other weights."""
        if self.adapter is None:
            return self
        given = {name: value for name, value in self.described().items() if name != "adapter"}
        made: Self = sharding.own_class(self)(**given)  # type: ignore[assignment]
        with without_memory():
            backbone, _ = made.networks()
        layers.merge(self.backbone, backbone)
        made.backbone, made.heads, made.tokenizer = backbone, self.heads, self.tokenizer
        made.generation_config, made.origin = self.generation_config, self.origin
        return made.train(self.training)

    def _require_adapter(self, name: str) -> None:
        if name not in self.adapters:
            raise ZooError(f"the model has no adapter `{name}`", hint=did_you_mean(name, self.adapters))

    # Heads

    def head_name(self, name: str | None = None) -> str:
        """The name of one head; None asks for the only one.

        Raises:
            ZooError: There is none of this name, or there are several.
        """
        if name is None and len(self.head_specs) == 1:
            return next(iter(self.head_specs))
        if not self.head_specs:
            raise ZooError("the model has no head", hint="give one: zoo.load(…, head=…)")
        known = ", ".join(self.head_specs)
        if name is None:
            raise ZooError("the model has several heads, and none was named", hint=f"its heads: {known}")
        if name not in self.head_specs:
            raise ZooError(f"the model has no head `{name}`", hint=did_you_mean(name, self.head_specs))
        return name

    def head(self, name: str | None = None) -> Head:
        """One head; None asks for the only one."""
        found = self.heads[self.head_name(name)]
        assert isinstance(found, Head)
        return found

    def adopt_labels(self, labels: Sequence[str], head: str | None = None) -> list[str]:
        """Tells a head that names no labels those of the data.

        Returns:
            The head's labels, by number.

        Raises:
            SpecError: There are too few.
        """
        name = self.head_name(head)
        with _placed(name):
            self.head_specs[name] = self.head_specs[name].with_labels(labels)
        return list(getattr(self.head_specs[name], "labels", None) or labels)

    @property
    def brings_tokenizer(self) -> bool:
        """Whether there is a tokenizer that data must use."""
        return self.tokenizer is not None or isinstance(self.source, HubModel)

    def own_tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer; of a Hub model, before its weights are there."""
        if self.tokenizer is None and isinstance(self.source, HubModel):
            _ = self.spec  # which finds out the commit
            self.tokenizer = Tokenizer.from_folder(pulling.folder_of(self.source))
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

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        head: str | None = None,
        **more: Tensor | None,
    ) -> Output:
        """Logits, and the loss where labels are given.

        Args:
            input_ids: (batch, tokens).
            attention_mask: (batch, tokens), 1 where a token is real.
            labels: As the head takes them; -100 is none.
            head: Its name, where there are several.
            more: What the backbone takes besides: `token_type_ids`, `decoder_input_ids`.

        Raises:
            TypeError: It takes no such thing.
        """
        taken = self.spec.inputs.union(self.reads, *(spec.reads for spec in self.head_specs.values()))
        if unknown := sorted(more.keys() - taken):
            raise TypeError(f"{registry.path_of(type(self.spec))} takes no `{unknown[0]}`")
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels, "head": head}
        batch = {name: value for name, value in (batch | more).items() if value is not None}
        chosen = self.head(head) if self.head_specs or head or labels is not None else None
        if chosen is not None and labels is not None:
            batch = chosen.prepare(batch)
        if chosen is None:
            return Output(self.hidden_states(batch), None)
        if labels is None:
            hidden_BTD = self.hidden_states(batch)
            return Output(hidden_BTD, chosen(hidden_BTD, batch))
        hidden_BTD, loss = self._read_and_lost(batch)
        return Output(hidden_BTD, chosen(hidden_BTD, batch), loss.mean)

    def hidden_states(self, batch: Batch) -> Tensor:
        """What the head reads: the backbone's hidden states of a batch, (batch, tokens, hidden_size)."""
        output = self.backbone(
            batch["input_ids"], Mask.from_attention_mask(batch.get("attention_mask")), **self.inputs(batch)
        )
        return self.hidden_of(output)

    def hidden_of(self, output: Tensor | WithLoss) -> Tensor:
        """The hidden states that a backbone gives; its own loss, if any, is kept for that of the head."""
        if not isinstance(output, WithLoss):
            return output
        if self._losses is not None:
            self._losses.append(output.loss)
        return output.hidden_BTD

    @contextmanager
    def _keeping_losses(self) -> Iterator[list[Tensor]]:
        losses: list[Tensor] = []
        self._losses = losses
        try:
            yield losses
        finally:
            self._losses = None

    def loss(self, batch: Batch) -> Loss:
        """The loss of a batch under the head that it names, with what the backbone adds to it."""
        with self._keeping_losses() as losses:
            loss = self.head(batch.get("head")).loss_from(self.hidden_states, batch)
        return self._added(loss, losses, batch)

    def _read_and_lost(self, batch: Batch) -> tuple[Tensor, Loss]:
        """The hidden states of a batch, all at once, and its loss, as `loss` has it."""
        with self._keeping_losses() as losses:
            hidden_BTD = self.hidden_states(batch)
        return hidden_BTD, self._added(self.head(batch.get("head")).loss(hidden_BTD, batch), losses, batch)

    def _added(self, loss: Loss, losses: Sequence[Tensor], batch: Batch) -> Loss:
        """A head's loss with those that the backbone gave meanwhile."""
        is_added = bool(losses) and self.hub_head(self.head_name(batch.get("head"))).adds_backbone_loss
        return replace(loss, added=torch.stack(list(losses)).sum()) if is_added else loss

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """What of a batch the backbone takes besides ids and mask."""
        return {name: batch[name] for name in self.spec.inputs if name in batch}

    def read(self, batch: Batch) -> list[tuple[Tensor, Tensor | None]]:
        """Ids that the backbone reads of a batch, and what is zero where they are padding."""
        return [(batch["input_ids"], batch.get("attention_mask"))]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch's share of the step's mean loss, under the head that the batch names."""
        name = self.head_name(batch.get("head"))
        batch = self.head(name).prepare(batch)
        loss = self.loss(batch)
        mean = loss.mean
        figure = f"train/{self.prefix(name)}loss"
        if self._pace.is_due(figure, self.trainer.global_step + 1, self.trainer.log_every_n_steps):  # type: ignore[attr-defined]
            size = len(batch["input_ids"])
            self.log(figure, mean.detach(), prog_bar=True, batch_size=size)
        # Labels of several tasks are not of one kind: their batches count alike.
        return self._label_mean.loss(loss if len(self.head_specs) == 1 else Loss(mean, 1), self.trainer)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """One step, on gradients of the mean over all labels of the batches that it takes."""

        def closure() -> Any:
            result = optimizer_closure() if optimizer_closure else None
            self._label_mean.finish(self.parameters(), self.trainer.accumulate_grad_batches)
            return result

        super().optimizer_step(epoch, batch_idx, optimizer, closure)

    def prefix(self, head: str) -> str:
        """What stands before the names of a head's figures in the log."""
        return "" if len(self.head_specs) == 1 else f"{head}/"

    def _start_evaluation(self) -> None:
        self._evaluation = {}

    def _evaluate(self, batch: Batch) -> dict[str, Any]:
        """Counts one batch, and tells callbacks what was made of it."""
        name = self.head_name(batch.get("head"))
        head = self.head(name)
        if name not in self._evaluation:
            self._evaluation[name] = head.metrics().to(self.device)
        batch = head.prepare(batch)
        hidden_BTD, loss = self._read_and_lost(batch)
        self._evaluation[name].update(loss, batch)
        return {"head": name, "batch": batch, "hidden": hidden_BTD}

    def _log_evaluation(self, part: str) -> None:
        for head, metrics in self._evaluation.items():
            for name, value in metrics.compute().items():
                is_shown = (part, name) == ("val", "loss")
                # Of one class alone, torchmetrics' correlation is a whole number, of which Lightning warns.
                self.log(f"{part}/{self.prefix(head)}{name}", value.float(), prog_bar=is_shown)

    def look(self, outputs: dict[str, Any]) -> Look | None:
        """What its head made of a held-out batch, row by row; None where the head tells no such thing.

        Args:
            outputs: What `validation_step` or `test_step` returned; it keeps the answer, for other callbacks.
        """
        if self.tokenizer is None:
            return None
        if "look" not in outputs:
            head = self.head(outputs["head"])
            outputs["look"] = head.look(outputs["hidden"], outputs["batch"], self.tokenizer)
        found: Look | None = outputs["look"]
        return found

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Any]:
        """What the head says of each of the batch's `prompts`."""
        return self.predict(batch["prompts"], batch.get("head"))

    @torch.inference_mode()
    def predict(self, texts: Sequence[str | tuple[str, str]], head: str | None = None) -> list[Any]:
        """The head's predictions, in order.

        Args:
            texts: What is read; a pair is read as one text. Too long ones are cut as the tokenizer says.
            head: Its name, where there are several.

        Raises:
            GenerationError: The model has no tokenizer, or a text is empty.
        """
        name = self.head_name(head)
        if isinstance(texts, str):
            raise GenerationError("`predict` takes a list of texts, got one text")
        if self.tokenizer is None:
            raise GenerationError("the model has no tokenizer, so it reads no text")
        found: list[Any] = []
        with evaluating(self):
            for start in range(0, len(texts), self.predicted_at_once):
                batch = self.encoded(texts[start : start + self.predicted_at_once], self.tokenizer, name)
                for number, length in enumerate(batch["attention_mask"].sum(-1).tolist(), start):
                    if not length:
                        raise GenerationError(f"text {number} is empty", hint="give at least one token")
                found += self.answers(batch, self.tokenizer)
        return found

    def encoded(self, texts: Sequence[Any], tokenizer: Tokenizer, head: str | None = None) -> Batch:
        """What is read to predict something of these texts, as long as the model and its tokenizer allow."""
        name, limit = self.head_name(head), self.spec.max_tokens
        found = self.head(name).encode(texts, tokenizer, min(limit, tokenizer.max_length or limit))
        moved = {key: part.to(self.device) for key, part in found.items() if isinstance(part, Tensor)}
        return {**found, **moved, "head": name}

    def answers(self, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """What the head that the batch names says of each of its texts."""
        return self.head(batch["head"]).predict(self.hidden_states(batch), batch, tokenizer)

    def on_validation_epoch_start(self) -> None:
        """Starts the measures anew."""
        self._start_evaluation()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Counts one batch.

        Returns:
            For callbacks, the name of its `head`, the `batch` as it was read, and its `hidden` states.
        """
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Logs the measures as `val/…`."""
        self._log_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Starts the measures anew."""
        self._start_evaluation()

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Counts one batch, and returns what `validation_step` does."""
        return self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        """Logs the measures as `test/…`."""
        self._log_evaluation("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The recipe's optimizer and schedule, stepped every optimizer step."""
        groups = optimization.groups_for(self.optimizer, self)
        if self.layer_decay < 1:
            groups = list(freezing.decayed(self.backbone, groups, self.layer_decay))
        optimizer = self.optimizer(groups)
        freezing.scale_rates(optimizer.param_groups)
        num_steps = self.trainer.estimated_stepping_batches
        if num_steps == float("inf") and not isinstance(self.lr_schedule, Constant):
            raise ZooError(
                "a learning-rate schedule needs the length of the run",
                at="trainer.max_steps",
                hint="set trainer.max_steps or trainer.max_epochs, or lr_schedule: zoo.schedules.Constant",
            )
        restoring.take_either(optimizer, self)
        schedule = Schedule(optimizer, lambda step: self.lr_schedule.factor((step + 1) / max(num_steps, 1)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips as the Trainer says, with a fused optimizer and on sharded weights, too.

        Lightning asks for it in every step. The norm is computed once, for clipping and for its watchers.
        """
        if gradient_clip_val is not None:
            clipping.unscale(optimizer, self.trainer)
        norm = clipping.norm_of(self)
        for watcher in clipping.watchers(self.trainer):
            watcher.on_gradient_norm(self.trainer, self, norm)
        if gradient_clip_val is None:
            return
        if gradient_clip_algorithm == "value":
            clipping.clip_value(self.parameters(), gradient_clip_val)
        else:
            clipping.clip_norm(self.parameters(), gradient_clip_val, norm())

    # Checkpoints stand alone: no recipe, no Hub, nothing pickled.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what `zoo.load` needs: the resolved spec, the tokenizer, the module's name.

        Raises:
            ZooError: It has several adapters.
        """
        if self.adapters not in ([], [ADAPTER]):
            raise ZooError(
                f"a checkpoint holds one adapter, `{ADAPTER}`, the model has {', '.join(self.adapters)}",
                hint="`save_adapter` writes each by itself",
            )
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = self.described()
        checkpoint["zoo"] = {
            "module": registry.path_of(sharding.own_class(self)),
            "tokenizer": self.tokenizer.to_plain() if self.tokenizer else None,
            "generation_config": self.generation_config,
            "origin": self.origin,
            "plugins": self.plugins(),
        }

    def plugins(self) -> dict[str, str]:
        """The distributions from which it comes, its backbone, heads and schedule, with their versions."""
        parts = [self.spec, *self.head_specs.values(), self.lr_schedule]
        return registry.used([sharding.own_class(self), *map(type, parts)])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes back the tokenizer.

        Raises:
            CheckpointError: The data was read with another one.
        """
        saved = checkpoint.get("zoo", {})
        self.generation_config = saved.get("generation_config", {})
        self.origin = saved.get("origin")
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
        """Takes sizes, labels and tokenizer from a checkpoint that is to be restored.

        The weights of a Hub model are then not streamed first, and the Hub is not asked.
        """
        if isinstance(self.source, HubModel):
            self.source = from_plain(checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]["backbone"])
            self._spec = None
        saved = checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]
        if isinstance(self.adapter, HubModel):
            self.adapter = make(LoRA, saved["adapter"])
        for name, head in (saved.get("heads") or {ONLY: saved["head"]}).items():
            labels = getattr(from_plain(head), "labels", None)
            if labels and name in self.head_specs:
                self.adopt_labels(labels, name)
        self.on_load_checkpoint(checkpoint)
