"""`zoo check`: a recipe's keys, types, fit and sizes. Nothing is trained, no weights are read."""

from typing import Any, ClassVar

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from zoo.adapters import LoRA
from zoo.cli import training
from zoo.errors import RecipeError
from zoo.layers import num_idle, without_memory
from zoo.modules.base import ZooModule
from zoo.specs import BackboneSpec
from zoo.training.footprint import Plan, footprint

HELP = """\
zoo check RECIPE [--devices N] [--key value …]

Keys, types, fit of head and data, sizes. Trains nothing.
With --devices: what each of so many devices holds and sends, if they share the model."""

LONGEST = 8192
"""Tokens of the row that is counted, where the model takes as many."""


class CheckCLI(training.ZooCLI):
    """Parses as `zoo fit` does, and stops before anything runs."""

    devices: ClassVar[int | None] = None
    """For how many devices memory is counted."""

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """A Trainer for this machine, whatever the recipe's hardware."""
        one_core = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
        return super().instantiate_trainer(**one_core, precision=None, plugins=None, logger=False)

    def fit(self, model: L.LightningModule, **kwargs: Any) -> None:
        """Prints sizes in place of training."""
        if not isinstance(model, ZooModule):
            return
        require_fit = getattr(kwargs.get("datamodule"), "require_fit", None)
        if require_fit is not None:
            require_fit(model)
        with without_memory():
            backbone, heads = model.networks()
        _print_sizes(backbone, heads)
        if isinstance(model.adapter, LoRA) or model.frozen:
            model.backbone, model.heads = backbone, heads
            with without_memory():
                trained, every = model.restrain()
            print(f"Trained are {trained:,} of {every:,} parameters ({trained / every:.2%}).")
        if self.devices is not None:
            _print_footprint(model, heads, self._plan(self.devices, model.spec))

    def _plan(self, devices: int, spec: BackboneSpec) -> Plan:
        trainer = self._get(self.config, "trainer")
        choices = getattr(trainer.strategy, "init_args", None) or {}
        size = choices.get("tensor_parallel_size") or 1
        if devices % size:
            raise RecipeError(
                f"`tensor_parallel_size` must divide the {devices} devices, got {size}",
                at="trainer.strategy.init_args.tensor_parallel_size",
            )
        dtype = torch.bfloat16 if str(trainer.precision).startswith("bf16") else torch.float32
        return Plan(devices, size, dtype, rows=1, tokens=min(spec.max_tokens, LONGEST))


def run(verb: str, arguments: list[str]) -> None:
    """Checks one recipe.

    Raises:
        ZooError: With the place in the recipe that is at fault.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        print(HELP)
        return
    if not arguments or arguments[0].startswith("-"):
        raise RecipeError("zoo check needs a recipe", hint="zoo list recipes shows the packaged ones")
    arguments, devices = _devices(arguments)
    command = type(CheckCLI.__name__, (CheckCLI,), {"devices": devices})
    training.run("fit", ["--config", *arguments], command)


def _devices(arguments: list[str]) -> tuple[list[str], int | None]:
    """The arguments without `--devices N`, and N."""
    arguments = [part for given in arguments for part in _split(given)]
    if "--devices" not in arguments:
        return arguments, None
    index = arguments.index("--devices")
    value = "".join(arguments[index + 1 : index + 2])
    if not value.isdecimal() or int(value) < 1:
        raise RecipeError(f"`--devices` must be a number of at least 1, got `{value}`")
    return arguments[:index] + arguments[index + 2 :], int(value)


def _split(given: str) -> list[str]:
    return given.split("=", 1) if given.startswith("--devices=") else [given]


def _print_sizes(backbone: nn.Module, heads: nn.ModuleDict) -> None:
    own = {id(parameter) for parameter in backbone.parameters()}
    sizes = {"backbone": sum(parameter.numel() for parameter in backbone.parameters())}
    for name, head in heads.items():
        title = name if len(heads) == 1 else f"head {name}"
        sizes[title] = sum(parameter.numel() for parameter in head.parameters() if id(parameter) not in own)
    total = sum(sizes.values())
    table = Table(title="The recipe holds.", title_justify="left", title_style="bold")
    table.add_column("part")
    table.add_column("parameters", justify="right")
    rows = {**sizes, "together": total}
    if idle := num_idle(backbone):
        rows["for each token"] = total - idle
    for name, size in rows.items():
        table.add_row(name, f"{size:,}")
    console = Console()
    console.print(table)
    # float32 weights and gradients, and two float32 moments of AdamW.
    console.print(
        f"Weights {_bytes(4 * total)}; in training with AdamW {_bytes(16 * total)} and activations."
    )


def _print_footprint(model: ZooModule, heads: nn.ModuleDict, plan: Plan) -> None:
    """What one of the devices holds and sends, under the sharding strategy."""
    found = footprint(model.spec, next(iter(heads.values())), plan)
    table = Table(
        title=f"Each of {plan.devices} devices, 1 row of {plan.tokens} tokens.", title_justify="left"
    )
    table.add_column("holds")
    table.add_column("bytes", justify="right")
    rows = {
        "weights": found.weights,
        "gradients": found.gradients,
        "optimizer": found.optimizer,
        "weights in use": found.gathered,
        "activations": found.activations,
        "activations, recomputed": found.recomputed,
        "head": found.head,
        "at most": found.peak(),
        "at most, recomputed": found.peak(checkpointing=True),
        "sent a step, sharding": found.sharding_traffic,
        "sent a step, tensor parallel": found.tensor_traffic,
    }
    for name, size in rows.items():
        table.add_row(name, _bytes(size))
    Console().print(table)


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"
