"""`zoo fit`, `validate`, `test`, `predict` and `check`: recipes through LightningCLI."""

import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from zoo import registry
from zoo.callbacks.checkpoint import Checkpoint
from zoo.callbacks.grad_norm import GradNorm
from zoo.callbacks.predictions import Predictions
from zoo.callbacks.throughput import Throughput
from zoo.cli import diagnosis, recipes
from zoo.cli.recipes import Recipe
from zoo.errors import RecipeError, ZooError
from zoo.hub.loading import read_checkpoint
from zoo.modules.base import ZooModule

TOP_KEYS = {
    "base", "ckpt_path", "data", "model", "return_predictions", "seed_everything", "trainer", "verbose",
    "weights_only",
}  # fmt: skip


class _ParserError(Exception):
    """What the parser refused, on its way to a diagnosis."""


class RecipeParser(LightningArgumentParser):
    """Raises where others print the usage and exit."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Hands the message on."""
        raise _ParserError(message) from ex


class RecordRecipe(SaveConfigCallback):
    """Keeps the resolved recipe beside the checkpoints and in TensorBoard."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Adds the recipe's text to TensorBoard."""
        text = self.parser.dump(self.config, skip_none=False)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("recipe", f"```yaml\n{text}\n```")


class ZooCLI(LightningCLI):
    """LightningCLI with the zoo's recipes, defaults and errors."""

    def _parse_ckpt_path(self) -> None:
        # Protected, and overridden all the same: Lightning lets a checkpoint's hyperparameters win over the
        # recipe and the flags, silently. tests/zoo/cli/test_training.py notices when the hook goes away.
        pass

    def instantiate_classes(self) -> None:
        """Reads the sizes of a model that is resumed from its checkpoint, not from the Hub."""
        super().instantiate_classes()
        path = self._get(self.config, "ckpt_path")
        if isinstance(self.model, ZooModule) and path not in (None, "last", "best", "hpc", "registry"):
            self.model.expect(read_checkpoint(Path(path)))

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Says what the Trainer refuses in one sentence."""
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            values = self._get(self.config, "trainer")
            named = [name for name, value in values.items() if value and str(value) in str(error)]
            at = f"trainer.{named[0]}" if named else "trainer"
            raise RecipeError(f"the Trainer refuses: {' '.join(str(error).split())}", at=at) from error


def defaults(run_name: str) -> dict[str, Any]:
    """What every run has, unless its recipe says otherwise: a bar, TensorBoard, checkpoints."""
    theme = RichProgressBarTheme(metrics="", metrics_text_delimiter="  ", metrics_format=".4g")
    return {
        "logger": {
            "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
            "init_args": {"save_dir": "runs", "name": run_name},
        },
        "log_every_n_steps": 10,
        "callbacks": [
            RichProgressBar(refresh_rate=5, theme=theme),
            LearningRateMonitor(),
            Checkpoint(),
            Throughput(),
            GradNorm(),
            Predictions(),
        ],
    }


def run(verb: str, arguments: list[str], command: type[ZooCLI] = ZooCLI) -> None:
    """Runs one of LightningCLI's subcommands.

    Raises:
        ZooError: With the place in the recipe that is at fault.
    """
    arguments, names = _resolved(arguments)
    recipe = _layered(names, arguments)
    try:
        _build(verb, arguments, run_name(names), command)
    except _ParserError as error:
        raise diagnosis.diagnose(recipe, str(error), TOP_KEYS) from error
    except ZooError as error:
        _place(error, recipe)
        raise
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning has shut down gracefully
            raise KeyboardInterrupt from error
        raise


def run_name(names: list[str]) -> str:
    """The folder under `runs/`: the last recipe's name."""
    if not names:
        return "run"
    path = Path(names[-1])
    packaged = {file: name for name, file in registry.recipes().items()}
    return packaged.get(path, path.stem).replace("/", "-")


def _build(verb: str, arguments: list[str], name: str, command: type[ZooCLI]) -> None:
    quiet()
    sys.argv = ["zoo"]  # LightningCLI warns where both it and `args` say something
    command(
        L.LightningModule,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        args=[verb, *arguments],
        parser_class=RecipeParser,
        parser_kwargs={"parser_mode": recipes.MODE},
        auto_configure_optimizers=False,
        save_config_callback=RecordRecipe,
        save_config_kwargs={"overwrite": True},
        trainer_defaults=defaults(name),
    )


def quiet() -> None:
    """Leaves out what Lightning says about hardware that is not there and services that are not used."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not any(word in record.getMessage() for word in ("💡", "TPU", "HPU"))
    )
    for pattern in (
        ".*does not have many workers.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        ".*exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", pattern)


def _resolved(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments with packaged recipes' names as paths, and those paths."""
    resolved, names = list(arguments), []
    for index, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag not in ("--config", "-c"):
            continue
        if equals:
            path = str(registry.recipe_path(value))
            resolved[index] = f"{flag}={path}"
        elif index + 1 < len(arguments):
            path = str(registry.recipe_path(arguments[index + 1]))
            resolved[index + 1] = path
        else:
            raise RecipeError(f"`{flag}` needs a recipe", hint="zoo list recipes shows the packaged ones")
        names.append(path)
    return resolved, names


def _layered(names: list[str], arguments: list[str]) -> Recipe:
    merged = Recipe()
    for name in names:
        layer = recipes.read(Path(name))
        for at, before, after in _changed_classes(merged.values, layer.values, ""):
            print(
                f"zoo: {name} changes `{at}` from {before} to {after}; "
                "arguments of the same name stay as the layers before say",
                file=sys.stderr,
            )
        merged.overlay(layer)
    return diagnosis.with_flags(merged, arguments)


def _changed_classes(base: Any, layer: Any, at: str) -> list[tuple[str, str, str]]:
    """Places where a layer names another class than the layers before, which gave it arguments."""
    if not (isinstance(base, Mapping) and isinstance(layer, Mapping)):
        return []
    found = []
    before, after = base.get("class_path"), layer.get("class_path")
    if before and after and before != after and base.get("init_args"):
        found.append((at, before, after))
    for name in base.keys() & layer.keys():
        inner = at if name == "init_args" else f"{at}.{name}".strip(".")
        found += _changed_classes(base[name], layer[name], inner)
    return found


def _place(error: ZooError, recipe: Recipe) -> None:
    if error.at and not error.source:
        error.source = diagnosis.place_of(recipe, error.at)
