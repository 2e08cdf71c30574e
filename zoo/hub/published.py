"""Recipes as they are published with a model, and what one from the Hub may say when it is run again.

What comes from the Hub is held against an allow-list before anything that it names is imported.
"""

import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from zoo import registry
from zoo.data.caching import cached
from zoo.errors import RecipeError
from zoo.hub import pulling
from zoo.specs import HubModel
from zoo.untrusted import require_size, short

FILE = "recipe.yaml"
PREFIX = "hub:"
"""Before `owner/name[@revision]`, where a recipe is named."""

HEADING = "# Recipe: "
"""Begins the line in which a run's recipe says from where on the Hub it came."""

LARGEST_BYTES, DEEPEST = 2**20, 64

_TOP = frozenset({"base", "data", "model", "seed_everything", "trainer"})
_TRAINER = frozenset(
    {
        "accelerator", "accumulate_grad_batches", "barebones", "benchmark", "callbacks", "callbacks+",
        "check_val_every_n_epoch", "default_root_dir", "detect_anomaly", "deterministic", "devices",
        "enable_autolog_hparams", "enable_checkpointing", "enable_model_summary", "enable_progress_bar",
        "fast_dev_run", "gradient_clip_algorithm", "gradient_clip_val", "inference_mode",
        "limit_predict_batches", "limit_test_batches", "limit_train_batches", "limit_val_batches",
        "log_every_n_steps", "logger", "max_epochs", "max_steps", "max_time", "min_epochs", "min_steps",
        "num_nodes", "num_sanity_val_steps", "overfit_batches", "plugins", "precision",
        "reload_dataloaders_every_n_epochs", "strategy", "sync_batchnorm", "use_distributed_sampler",
        "val_check_interval",
    }
)  # fmt: skip
_TORCH = re.compile(r"torch\.optim\.(lr_scheduler\.)?[A-Z]\w*")
_OWN = frozenset({"zoo.training.Float8", "zoo.training.Muon", "zoo.training.strategies.ShardedStrategy"})
"""What the packaged presets name and no group registers."""
_OUTWARD = "zoo.callbacks.push_to_hub:PushToHub"
"""It would publish what somebody else trains, under a name that it does not choose."""
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_OUTSIDE = re.compile(r"[/\\~]|[A-Za-z]:[\\/]|\w+://")
_DATA_SET = re.compile(r"([\w-][\w.-]*/[\w.-]+)(@[\w./-]+)?(#[\w.-]+)?(:.*)?")
_SOURCES = ("source", "validation")
_HINT = "read it on the Hub; what you trust of it runs from a file of your own"


def data_set_of(source: str) -> str | None:
    """The id on the Hub of a source of data; None where it is no data set there."""
    found = _DATA_SET.fullmatch(source)
    return None if found is None or Path(source.partition(":")[0]).exists() else found[1]


def recipe_of(text: str) -> str:
    """A run's resolved recipe as it is published: without what is of this run alone.

    That is its loggers, its checkpoint, and the push itself.
    """
    values = yaml.safe_load(text)
    heading = "".join(f"{line}\n" for line in text.splitlines() if line.startswith(HEADING))
    trainer = {name: value for name, value in (values.get("trainer") or {}).items() if value is not None}
    if not isinstance(trainer.get("logger"), bool):
        trainer.pop("logger", None)
    for name in ("default_root_dir", "model_registry", "enable_autolog_hparams"):
        trainer.pop(name, None)
    given = trainer.pop("callbacks", [])
    callbacks = [one for one in (given if isinstance(given, list) else [given]) if not _is_outward(one)]
    if callbacks:
        trainer["callbacks"] = callbacks
    kept = {name: values[name] for name in ("seed_everything", "model", "data") if name in values}
    kept["trainer"] = trainer
    return heading + str(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=110))


def _is_outward(callback: Any) -> bool:
    path = callback.get("class_path") if isinstance(callback, Mapping) else callback
    return isinstance(path, str) and path in _paths(outward=True)


def fetch(name: str) -> tuple[Path, str]:
    """The recipe that was pushed with a model, held against the allow-list.

    Args:
        name: `owner/name[@revision]`.

    Returns:
        A file that holds it and nothing beside it, and `hub:owner/name@commit`.

    Raises:
        RecipeError: It says more than a recipe from the Hub may.
        CheckpointError: It is not to be had.
    """
    repo_id, _, revision = name.removeprefix(PREFIX).partition("@")
    model = pulling.pinned(HubModel(f"{repo_id}@{revision or 'main'}"))
    path = pulling.fetch_file(model, FILE)
    require_size(path, LARGEST_BYTES)
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"the recipe of `{model.name}` is not UTF-8: byte {error.start}") from error
    require_permitted(text, model.name)

    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / FILE).write_text(text, "utf-8")

    # Alone in its folder: of the model's other files, it can name none as its base.
    folder = cached(f"recipes-{model.name.replace('/', '--')}", write)
    if (folder / FILE).read_text("utf-8") != text:
        raise RecipeError(f"{folder / FILE} is not the recipe of `{model.name}`", hint="delete it")
    return folder / FILE, f"{PREFIX}{model.name}"


def require_permitted(text: str, name: str) -> None:
    """Refuses a recipe that names more than registered classes, torch's optimizers and plain values.

    Nothing that it names is imported.

    Args:
        text: The recipe.
        name: Whose it is.

    Raises:
        RecipeError: With the key and what is wrong with it.
    """
    try:
        for fault, key in _faults(_values(text), ()):
            at = ".".join(part for part in key if part not in ("class_path", "init_args"))
            raise RecipeError(f"the recipe of `{name}` {fault}", at=at or None, hint=_HINT)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecipeError(f"the recipe of `{name}` is no YAML that the zoo reads: {reason}") from error


def _values(text: str) -> Any:
    """What a text says; without aliases, tags and endless depth.

    Raises:
        ValueError: It has some.
    """
    depth = 0
    event: Any
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"it has the anchor or alias {short(event.anchor)}")
        if getattr(event, "tag", None):
            raise ValueError(f"it has the tag {short(event.tag)}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")
    return yaml.safe_load(text)


Fault = tuple[str, tuple[str, ...]]
"""What is wrong, and where."""


def _faults(values: Any, key: tuple[str, ...]) -> Iterator[Fault]:
    """What a whole recipe may not say."""
    if not isinstance(values, Mapping):
        yield "is no mapping of keys", ()
        return
    for name in values:
        if name not in _TOP:
            yield f"says {short(name)}, which is its reader's to say", ()
    for name in ("model", "data"):
        if name in values and not isinstance(values[name], Mapping):
            yield f"must say what class its {name} is by `class_path`, got {short(values[name])}", (name,)
    yield from _base_faults(values.get("base", []))
    yield from _trainer_faults(values.get("trainer", {}))
    for name in ("model", "data", "seed_everything"):
        yield from _value_faults(values.get(name), (name,))


def _base_faults(bases: Any) -> Iterator[Fault]:
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or base.removesuffix(".yaml") not in registry.recipes():
            yield f"starts from {short(base)}, which is no packaged recipe", ("base",)


def _trainer_faults(trainer: Any) -> Iterator[Fault]:
    if not isinstance(trainer, Mapping):
        yield f"has a trainer that is no mapping but {short(trainer)}", ("trainer",)
        return
    for name, value in trainer.items():
        at = ("trainer", str(name))
        if name not in _TRAINER:
            yield f"sets {short(name)}, which is its reader's to set", at
        elif name == "logger" and not isinstance(value, bool | None):
            yield "chooses a logger, which is its reader's to choose", at
        elif name in ("callbacks", "callbacks+", "plugins"):
            for item in value if isinstance(value, list) else [value]:
                named = item.get("class_path") if isinstance(item, Mapping) else item
                if named is not None:
                    yield from _class_faults(named, at)
                yield from _value_faults(item, at)
        else:
            yield from _value_faults(value, at)


def _value_faults(value: Any, key: tuple[str, ...]) -> Iterator[Fault]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            at = (*key, str(name))
            if not isinstance(name, str) or name.startswith("__") or name == "dict_kwargs":
                yield f"has the key {short(name)}, which none from the Hub may have", key
            elif name == "class_path":
                yield from _class_faults(item, at)
            else:
                yield from _value_faults(item, at)
    elif isinstance(value, list):
        for item in value:
            yield from _value_faults(item, key)
    elif isinstance(value, str):
        yield from _text_faults(value, key)
    elif not isinstance(value, bool | int | float | None):
        yield f"holds a {type(value).__name__}, which is no plain value", key


def _class_faults(path: Any, key: tuple[str, ...]) -> Iterator[Fault]:
    if isinstance(path, str) and path in _paths(outward=True):
        yield f"names `{path}`: whether to publish is its reader's to say", key
    elif not isinstance(path, str) or not (path in _paths() or path in _OWN or _TORCH.fullmatch(path)):
        yield (
            f"names {short(path)}; one from the Hub may name registered classes, and torch's optimizers and "
            "schedulers",
            key,
        )


def _paths(*, outward: bool = False) -> set[str]:
    """Under what names registered classes are known; of those that act outside of the run, or the others."""
    entries = (entry for entry in registry.entries() if entry.group != "zoo.recipes")
    return {
        path
        for entry in entries
        if entry.state in ("ok", "clash", "shadowed") and (entry.value == _OUTWARD) is outward
        for path in (
            entry.import_path,
            *([f"{entry.group}.{entry.attribute}"] if entry.state == "ok" else []),
        )
    }


def _text_faults(text: str, key: tuple[str, ...]) -> Iterator[Fault]:
    if "${" in text:
        yield f"holds {short(text)}, which asks for what is around it", key
    if "\0" in text or _OUTSIDE.match(text) or ".." in re.split(r"[/\\]", text):
        yield f"names {short(text)}, a place outside of the folder that it is run in", key
    elif _DOTTED.fullmatch(text) and key[-1] not in _SOURCES and _is_module(text.partition(".")[0]):
        yield from _class_faults(text, key)
    elif any(mark in text for mark in ":[{-\n"):  # the parser reads a text as YAML where no text is asked for
        try:
            inner = _values(text)
        except yaml.YAMLError:
            return
        if isinstance(inner, Mapping | list):
            yield from _value_faults(inner, key)


def _is_module(name: str) -> bool:
    """Whether there is one of this name; it is not imported."""
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return True
