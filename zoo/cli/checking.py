"""`zoo check`: a recipe's keys, types, fit and sizes. Nothing is trained, no weights are read."""

from typing import Any

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from zoo.cli import training
from zoo.errors import RecipeError
from zoo.modules.base import ZooModule


class CheckCLI(training.ZooCLI):
    """Parses as `zoo fit` does, and stops before anything runs."""

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
        with torch.device("meta"):
            backbone, heads = model.networks()
        _print_sizes(backbone, heads)


def run(verb: str, arguments: list[str]) -> None:
    """Checks one recipe.

    Raises:
        ZooError: With the place in the recipe that is at fault.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        print("zoo check RECIPE [--key value …]\n\nKeys, types, fit of head and data, sizes. Trains nothing.")
        return
    if not arguments or arguments[0].startswith("-"):
        raise RecipeError("zoo check needs a recipe", hint="zoo list recipes shows the packaged ones")
    training.run("fit", ["--config", *arguments], CheckCLI)


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
    for name, size in {**sizes, "together": total}.items():
        table.add_row(name, f"{size:,}")
    console = Console()
    console.print(table)
    # float32 weights and gradients, and two float32 moments of AdamW.
    console.print(
        f"Weights {_bytes(4 * total)}; in training with AdamW {_bytes(16 * total)} and activations."
    )


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"
