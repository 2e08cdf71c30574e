"""`zoo fit`, `validate`, `test`, `predict` and `check`: recipes through LightningCLI."""

import logging
import re
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from zoo import registry
from zoo.callbacks.checkpoint import Checkpoint
from zoo.callbacks.grad_norm import GradNorm
from zoo.callbacks.predictions import Predictions
from zoo.callbacks.progress import Progress
from zoo.callbacks.throughput import Throughput
from zoo.cli import diagnosis, recipes
from zoo.cli.recipes import Recipe
from zoo.errors import CheckpointError, DataError, RecipeError, ZooError
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

    def instantiate(self, *arguments: Any, **keywords: Any) -> Any:
        """Hands on what a class says against its arguments; the parser wraps it in words of its own."""
        try:
            return super().instantiate(*arguments, **keywords)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise _ParserError(str(error)) from error


class RecordRecipe(SaveConfigCallback):
    """Keeps the resolved recipe beside the checkpoints and in TensorBoard."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Adds the recipe's text to TensorBoard."""
        text = self.parser.dump(self.config, skip_unset=False)
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
        if isinstance(self.model, ZooModule):
            path = self._get(self.config, "ckpt_path")
            resumes = path not in (None, "last", "best", "hpc", "registry")
            try:
                if resumes:
                    self._expect(self.model, Path(path))
                _ = self.model.spec  # it refuses parts that do not fit, before any work
            except CheckpointError as error:
                error.at = error.at or ("ckpt_path" if resumes else "model.backbone")
                raise

    def _expect(self, model: ZooModule, path: Path) -> None:
        checkpoint = read_checkpoint(path)
        model.expect(checkpoint)
        _require_same_tensors(model, checkpoint["state_dict"], path)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Says what the Trainer refuses in one sentence."""
        defaults = self.trainer_defaults["callbacks"]
        given = self._get(self.config_init, "trainer")
        kept = [callback for callback in defaults if _is_wanted(callback, given)]
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": kept}
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise _trainers(error, self._get(self.config, "trainer").as_dict()) from error


def _require_same_tensors(model: ZooModule, saved: Mapping[str, torch.Tensor], path: Path) -> None:
    with torch.device("meta"):
        parts = {"backbone": model.spec.build(), "head": model.head_spec.build(model.spec)}
    built = {
        f"{part}.{name}": list(tensor.shape)
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    hint = "use the sizes that it was trained with"
    for name in built.keys() ^ saved.keys():
        owner, other = (path, "the recipe's model") if name in saved else ("the recipe's model", path)
        raise CheckpointError(f"{owner} has the tensor `{name}`, {other} has not", hint=hint)
    for name, shape in built.items():
        if list(saved[name].shape) != shape:
            raise CheckpointError(
                f"`{name}` is {list(saved[name].shape)} in {path} and {shape} in the recipe's model",
                hint=hint,
            )


def _is_lightnings(error: Exception) -> bool:
    """Whether Lightning itself raised it, so that what it was told is at fault."""
    *_, last = traceback.walk_tb(error.__traceback__)
    raised_in: str = last[0].f_globals.get("__name__", "")
    return isinstance(error, MisconfigurationException) or raised_in.startswith("lightning.")


def _trainers(error: Exception, values: Mapping[str, Any]) -> RecipeError:
    """What the Trainer refuses, with the key that it speaks of."""
    message = " ".join(str(error).split())
    names = [name for name in values if re.search(rf"\b{name}\b", message)]
    names.sort(key=message.index)
    names += [name for name, value in values.items() if isinstance(value, str) and value in message]
    return RecipeError(f"the Trainer refuses: {message}", at=".".join(["trainer", *names[:1]]))


def _is_wanted(callback: Callback, trainer: Mapping[str, Any]) -> bool:
    """Whether a recipe leaves room for a default callback: it neither has its like nor turns it off."""
    given = trainer["callbacks"] or []
    kinds = (type(callback), ProgressBar) if isinstance(callback, ProgressBar) else type(callback)
    if any(isinstance(other, kinds) for other in (given if isinstance(given, list) else [given])):
        return False
    switches = {
        ProgressBar: "enable_progress_bar",
        ModelCheckpoint: "enable_checkpointing",
        LearningRateMonitor: "logger",
    }
    return not any(
        isinstance(callback, kind) and trainer[switch] is False for kind, switch in switches.items()
    )


def defaults(run_name: str) -> dict[str, Any]:
    """What every run has, unless its recipe says otherwise: a bar, TensorBoard, checkpoints."""
    return {
        "logger": {
            "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
            "init_args": {"save_dir": "runs", "name": run_name},
        },
        "log_every_n_steps": 10,
        "callbacks": [
            Progress(),
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
    if arguments and not arguments[0].startswith("-"):
        hint = f"a recipe is given as --config {arguments[0]}"
        raise RecipeError(f"`zoo {verb}` takes no `{arguments[0]}`", hint=hint)
    arguments, names = _resolved(arguments)
    recipe = _layered(names, arguments)
    try:
        _build(verb, arguments, run_name(names), command)
    except _ParserError as error:
        raise diagnosis.diagnose(recipe, TOP_KEYS) or _in_its_own_words(error) from error
    except ZooError as error:
        _place(error, recipe)
        raise
    except (MisconfigurationException, RuntimeError, ValueError, TypeError) as error:
        if not _is_lightnings(error):
            raise
        refused = _trainers(error, recipe.values.get("trainer", {}))
        _place(refused, recipe)
        raise refused from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning has shut down gracefully
            raise KeyboardInterrupt from error
        raise


def _in_its_own_words(error: _ParserError) -> RecipeError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return RecipeError(lines[0], hint="\n".join(lines[1:9]) or None)


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
        parser_kwargs={"parser_mode": recipes.MODE, "allow_abbrev": False},
        seed_everything_default=0,
        auto_configure_optimizers=False,
        save_config_callback=RecordRecipe,
        save_config_kwargs={"overwrite": True},
        trainer_defaults=defaults(name),
    )


_NOISE = ("💡", "TPU available", "HPU available", "GPU available: False", "Seed set to")

_HARMLESS = (
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*exists and is not empty.*",
    ".*is not supported by the model summary.*",
    ".*smaller than the logging interval.*",
    ".*The dirpath has changed.*",  # each run writes to a folder of its own, a resumed one, too
)


def quiet() -> None:
    """Leaves out what Lightning says about hardware that is not there and choices that are meant."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(
            lambda record: not any(noise in record.getMessage() for noise in _NOISE)
        )
    for pattern in _HARMLESS:
        warnings.filterwarnings("ignore", pattern)


def _resolved(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments, recipes first, so that flags override, and by path; and those paths."""
    rest, names = [], []
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag not in ("--config", "-c"):
            rest.append(word)
        elif name := value if equals else next(words, None):
            names.append(str(registry.recipe_path(name)))
        else:
            raise RecipeError(f"`{flag}` needs a recipe", hint="zoo list recipes shows the packaged ones")
    return [*(f"--config={name}" for name in names), *rest], names


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
    if isinstance(error, DataError) and not error.at:
        values = recipe.values.get("data", {}).get("init_args", {})
        told = f"{error.message} {error.source}"
        named = [name for name, value in values.items() if isinstance(value, str) and value in told]
        error.at = ".".join(["data", *named[:1]])
    if error.at and not error.source:
        error.source = diagnosis.place_of(recipe, error.at)
