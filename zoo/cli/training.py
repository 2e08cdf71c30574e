"""`zoo fit`, `validate`, `test`, `predict` and `check`: recipes through LightningCLI."""

import re
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from zoo import registry
from zoo.cli import defaults, diagnosis, layering, recipes
from zoo.cli.recipes import Recipe
from zoo.data.loading import death_of_worker
from zoo.errors import CheckpointError, DataError, RecipeError, ZooError
from zoo.hub.loading import read_checkpoint
from zoo.hub.published import HEADING
from zoo.layers import without_memory
from zoo.modules.base import ZooModule
from zoo.training import optimization, preemption
from zoo.training.files import newest, offer
from zoo.training.float8 import Float8

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
    """Keeps the resolved recipe beside the checkpoints and in TensorBoard, and there the plugins used.

    Args:
        origins: Of those of its layers that came from the Hub, `hub:owner/name@commit`.
        given: What SaveConfigCallback takes.
        named: What it takes by name.
    """

    def __init__(self, *given: Any, origins: Sequence[str] = (), **named: Any) -> None:
        super().__init__(*given, **named)
        self.heading = "".join(f"{HEADING}{origin}\n" for origin in origins)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Adds the recipe's text to TensorBoard, and to both where it came from."""
        text = self.heading + self.parser.dump(self.config, skip_unset=False)
        path = Path(trainer.log_dir or "", self.config_filename)
        if self.heading and path.is_file():
            path.write_text(self.heading + path.read_text("utf-8"), "utf-8")
        used = pl_module.plugins() if isinstance(pl_module, ZooModule) else {}
        used |= registry.used(map(type, [trainer.datamodule, *trainer.callbacks]))  # type: ignore[attr-defined]
        plugins = "\n".join(f"- {name} {version}" for name, version in used.items())
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("recipe", f"```yaml\n{text}\n```")
                logger.experiment.add_text("plugins", plugins)


class ZooCLI(LightningCLI):
    """LightningCLI with the zoo's recipes, defaults and errors."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses `args`; `sys.argv` stays as it is: Lightning starts other processes with it."""
        given, sys.argv = sys.argv, sys.argv[:1]  # it warns where both say something
        try:
            super().parse_arguments(parser, args)
        finally:
            sys.argv = given

    def _parse_ckpt_path(self) -> None:
        # Protected, and overridden all the same: Lightning lets a checkpoint's hyperparameters win over the
        # recipe and the flags, silently. tests/zoo/cli/test_training.py notices when the hook goes away.
        pass

    def instantiate_classes(self) -> None:
        """Reads the sizes of a model that is resumed from its checkpoint, not from the Hub."""
        super().instantiate_classes()
        self._resolve_last()
        if isinstance(precision := self.trainer.precision_plugin, Float8):
            precision.require(self.trainer.strategy.root_device)
        if isinstance(self.model, ZooModule):
            path = self._get(self.config, "ckpt_path")
            resumes = path not in (None, "last", "best", "hpc", "registry")
            try:
                if resumes:
                    self._expect(self.model, Path(path))
                _ = self.model.spec  # it refuses parts that do not fit, before any work
                optimization.require_valid(self.model.optimizer)
            except CheckpointError as error:
                error.at = error.at or ("ckpt_path" if resumes else "model.backbone")
                raise

    def _resolve_last(self) -> None:
        """Makes `last` the newest checkpoint of this recipe's runs, whichever of them wrote it."""
        asked = self._get(self.config, "ckpt_path")
        is_again = asked is None and self.subcommand == "fit" and preemption.is_run_again()
        if asked != "last" and not is_again:
            return
        folder = _runs_of(self.trainer)
        path = newest(folder)
        if path is None and is_again:
            return
        if path is None:
            raise CheckpointError(
                f"no run of this recipe has left a checkpoint under {folder}",
                at="ckpt_path",
                hint="start it without --ckpt_path last",
            )
        for config in (self.config, self.config_init):
            config[self.subcommand]["ckpt_path"] = str(path)
        if self.trainer.is_global_zero:
            print(f"goes on from {path}")

    def _expect(self, model: ZooModule, path: Path) -> None:
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError as error:
            error.hint = error.hint or offer(path)
            raise
        model.expect(checkpoint)
        _require_same_tensors(model, checkpoint["state_dict"], path)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Says what the Trainer refuses in one sentence."""
        given = self._get(self.config_init, "trainer")
        kept = [
            callback for callback in self.trainer_defaults["callbacks"] if defaults.is_wanted(callback, given)
        ]
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": kept}
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*fp16 is not supported on CPU")  # it is an error below
                trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
            raise _trainers(error, self._get(self.config, "trainer").as_dict()) from error
        _require_float16(str(kwargs.get("precision", given["precision"])), trainer)
        return trainer


def _require_float16(asked: str, trainer: L.Trainer) -> None:
    """Refuses float16 on a processor, where Lightning computes in something else, or numbers overflow."""
    if asked in ("16", "16-mixed", "16-true") and trainer.strategy.root_device.type == "cpu":
        raise RecipeError(
            f"precision `{asked}` needs a GPU, this run is on cpu",
            at="trainer.precision",
            hint="use bf16-mixed or 32-true",
        )


def _runs_of(trainer: L.Trainer) -> Path:
    """Where this recipe's runs lie, each in a folder of its own."""
    for logger in trainer.loggers:
        if logger.save_dir:
            return Path(logger.save_dir, str(logger.name))
    return Path(trainer.default_root_dir)


def _require_same_tensors(model: ZooModule, saved: Mapping[str, torch.Tensor], path: Path) -> None:
    with without_memory():
        parts = dict(zip(("backbone", "heads"), model.networks(), strict=True))
    built = {
        f"{part}.{name}": list(tensor.shape)
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    hint = "use the sizes that it was trained with"
    for name in (name for name in (*built, *saved) if not (name in built and name in saved)):
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


def run(verb: str, arguments: list[str], command: type[ZooCLI] = ZooCLI) -> None:
    """Runs one of LightningCLI's subcommands.

    Raises:
        ZooError: With the place in the recipe that is at fault.
    """
    if arguments and not arguments[0].startswith("-"):
        hint = f"a recipe is given as --config {arguments[0]}"
        raise RecipeError(f"`zoo {verb}` takes no `{arguments[0]}`", hint=hint)
    arguments, names = layering.resolved(arguments)
    recipe = layering.layered(names, arguments)
    if diagnosis.is_overlooked(recipe.values) and (fault := diagnosis.diagnose(recipe, TOP_KEYS)):
        raise fault
    try:
        _build(verb, arguments, names, command)
    except _ParserError as error:
        raise diagnosis.diagnose(recipe, TOP_KEYS) or _in_its_own_words(error) from error
    except ZooError as error:
        _place(error, recipe)
        raise
    except (MisconfigurationException, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, RuntimeError) and (death := death_of_worker(error)):
            _place(death, recipe)
            raise death from error
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


def _build(verb: str, arguments: list[str], names: list[str], command: type[ZooCLI]) -> None:
    defaults.quiet()
    _for_one_verb(command, verb)(
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
        save_config_kwargs={
            "overwrite": True,
            "origins": [layering.ORIGINS[name] for name in names if name in layering.ORIGINS],
        },
        trainer_defaults=defaults.trainer_defaults(layering.run_name(names)),
    )


def _for_one_verb(command: type[ZooCLI], verb: str) -> type[ZooCLI]:
    """The command without the parsers of other verbs, each of which takes a while to make."""
    skipped = {verb: command.subcommands()[verb]}
    return type(command.__name__, (command,), {"subcommands": staticmethod(lambda: skipped)})


def _place(error: ZooError, recipe: Recipe) -> None:
    if isinstance(error, DataError) and not error.at:
        values = recipe.values.get("data", {}).get("init_args", {})
        told = f"{error.message} {error.source}"
        named = [name for name, value in values.items() if isinstance(value, str) and value in told]
        error.at = ".".join(["data", *named[:1]])
    if error.at and not error.source:
        error.source = recipes.place_of(recipe, error.at)
