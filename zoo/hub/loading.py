"""A model by name: Hub id, folder or checkpoint."""

import pickle
import sys
import textwrap
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo import registry
from zoo.errors import CheckpointError
from zoo.hub import config as hub_config
from zoo.hub import filling, pulling, sharded, weights
from zoo.specs import BackboneSpec, HeadSpec, HubModel

if TYPE_CHECKING:
    from zoo.modules.base import ZooModule


def load(
    model: str | Path,
    revision: str | None = None,
    head: HeadSpec | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> "ZooModule":
    """A model in eval mode, with its `.tokenizer`.

    Args:
        model: `owner/name` on the Hub, a folder in its format, or a `.ckpt` of a run.
        revision: A branch, tag or commit on the Hub.
        head: Of a model in the Hub's format; by default the one that it was saved with, if any.
        dtype: Of the parameters; by default the files' own.
        device: By default torch's.

    Raises:
        CheckpointError: The files are not to be had, are broken, or do not fit.
        UnknownNameError: No plugin registers the model's family.
    """
    path = Path(model)
    if path.is_file() or sharded.is_sharded(path):
        if head is not None:
            raise CheckpointError(
                f"{path} is a run's checkpoint, which has its own head, so it takes no `head`"
            )
        loaded = _load_checkpoint(path)
    elif path.suffix == ".ckpt":
        raise CheckpointError(f"no checkpoint {path}")
    else:
        name = str(model) if revision is None else f"{model}@{revision}"
        loaded = _load_hub(HubModel(name), head, dtype, device)
    return loaded.to(dtype=dtype, device=device).eval()


def _load_hub(
    model: HubModel, head: HeadSpec | None, dtype: torch.dtype | None, device: torch.device | str | None
) -> "ZooModule":
    model = pulling.pinned(model)
    folder = pulling.folder_of(model, weights=False)
    config = hub_config.read_config(folder)
    spec = hub_config.spec_of(config, f"{folder / hub_config.FILE}")
    modules = {entry.name: entry for entry in registry.in_group("zoo.modules")}
    entry = modules.get(spec.shape.replace("-", "_"))
    if entry is None:
        raise CheckpointError(f"{folder} holds the shape {spec.shape}, for which no module is registered")
    if head is None:
        is_bare = filling.architecture_of(config) == spec.architecture
        head = _described(pulling.folder_of(model)) if is_bare else _head_of(config, spec, folder)
    heads: dict[str, HeadSpec] | None = {} if head is None else None
    loaded: ZooModule = entry.load()(backbone=model, head=head, heads=heads)
    loaded.build(dtype or weights.dtype_of(pulling.folder_of(model)), device)
    return loaded


def _head_of(config: dict[str, Any], spec: BackboneSpec, folder: Path) -> HeadSpec:
    kind = filling.head_of(config, spec)
    if kind is None:
        raise CheckpointError(
            f"{folder} was saved as {filling.architecture_of(config)}, "
            "which is no head that the zoo knows for this family",
            hint=f"give one: head=zoo.heads.{next(iter(spec.heads), '…')}()",
        )
    return filling.read_head(kind, config)


def _described(folder: Path) -> HeadSpec | None:
    """The head that files beside a bare backbone describe, if any does."""
    kinds: Iterable[type[HeadSpec]] = registry.usable("zoo.heads").values()
    return next((head for kind in kinds if (head := kind.of_folder(folder)) is not None), None)


def read_checkpoint(path: Path, *, mmap: bool = True) -> dict[str, Any]:
    """A run's checkpoint.

    Args:
        path: The file, or the folder of a run whose processes each wrote their part.
        mmap: Leaves its tensors in the file; otherwise they are read, and checked.

    Raises:
        CheckpointError: It is cut off, holds more than tensors and plain data, or is not the zoo's.
    """
    if sharded.is_sharded(path):
        return _of_the_zoo(sharded.read(path), path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is no checkpoint, or is cut off: it does not end as one does")
    try:
        if not mmap and (broken := _first_broken(path)):
            raise CheckpointError(f"{path} is corrupt: its part `{broken}` is not what was written")
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, so it is not read"
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise CheckpointError(f"{path} is no checkpoint, or is cut off: {error}") from error
    return _of_the_zoo(checkpoint, path)


def _of_the_zoo(checkpoint: Any, path: Path) -> dict[str, Any]:
    if not (isinstance(checkpoint, dict) and isinstance(checkpoint.get("zoo"), dict)):
        raise CheckpointError(f"{path} is a checkpoint, but none that the zoo wrote")
    return checkpoint


def _first_broken(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _require_plugins(made_with: dict[str, str], path: Path) -> None:
    """Refuses a checkpoint whose model comes from a plugin that is not installed."""
    installed = {entry.distribution for entry in registry.entries()}
    missing = {name: version for name, version in made_with.items() if name not in installed}
    if missing:
        named = ", ".join(f"{name} {version}" for name, version in missing.items())
        wanted = " ".join(f"{name}=={version}" for name, version in missing.items())
        raise CheckpointError(
            f"{path} was made with {named}, which is not installed", hint=f"pip install {wanted}"
        )


def _load_checkpoint(path: Path) -> "ZooModule":
    from zoo.modules.base import ZooModule  # which imports this package

    checkpoint = read_checkpoint(path)
    _require_plugins(checkpoint["zoo"].get("plugins") or {}, path)
    named = str(checkpoint["zoo"].get("module"))
    module, _, name = named.rpartition(".")
    registered = module in registry.GROUPS
    found = registry.attribute(module, name) if registered else getattr(sys.modules.get(module), name, None)
    if not (isinstance(found, type) and issubclass(found, ZooModule)):
        raise CheckpointError(f"{path} was made by `{named}`, which no plugin registers")
    try:
        if sharded.is_sharded(path):
            loaded = found(**checkpoint[found.CHECKPOINT_HYPER_PARAMS_KEY])
            loaded.on_load_checkpoint(checkpoint)
            loaded.build()
            sharded.fill(loaded, path)
            return loaded
        return found.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except RuntimeError as error:  # torch's, of names and shapes
        reason = textwrap.shorten(str(error), 400)
        raise CheckpointError(
            f"the weights of {path} do not fit the model that it describes: {reason}"
        ) from error
