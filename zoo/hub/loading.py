"""A model by name: Hub id, folder or checkpoint."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo import registry
from zoo.errors import CheckpointError
from zoo.hub import config as hub_config
from zoo.hub import files, weights
from zoo.specs import HeadSpec, HubModel

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
        head: By default the one that the files were saved with.
        dtype: Of the parameters; by default the files' own.
        device: By default torch's.

    Raises:
        CheckpointError: The files are not to be had, are broken, or do not fit.
        UnknownNameError: No plugin registers the model's family.
    """
    path = Path(model)
    if path.is_file():
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
    folder = files.folder_of(model)
    config = hub_config.read_config(folder)
    spec = hub_config.spec_of(config, f"{folder / hub_config.FILE}")
    module = next(
        entry.load()
        for entry in registry.in_group("zoo.modules")
        if entry.name == spec.shape.replace("-", "_")
    )
    if head is None:
        architecture = (config.get("architectures") or ["none"])[0]
        named = [name for name, hub_head in spec.heads.items() if hub_head.architecture == architecture]
        if not named:
            raise CheckpointError(
                f"{folder} was saved as {architecture}, which is no head that the zoo knows for this family",
                hint=f"give one: head=zoo.heads.{next(iter(spec.heads), '…')}()",
            )
        head = registry.attribute("zoo.heads", named[0])()
    loaded: ZooModule = module(backbone=HubModel(str(folder)), head=head)
    loaded.build(dtype or weights.dtype_of(folder), device)
    return loaded


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A run's checkpoint, its tensors still in the file.

    Raises:
        CheckpointError: It is cut off, holds more than tensors and plain data, or is not the zoo's.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path} is no checkpoint, or is cut off: {reason}") from error
    if not isinstance(checkpoint, dict) or "zoo" not in checkpoint:
        raise CheckpointError(f"{path} is a checkpoint, but none that the zoo wrote")
    return checkpoint


def _load_checkpoint(path: Path) -> "ZooModule":
    named = read_checkpoint(path)["zoo"]["module"]
    module, _, name = named.rpartition(".")
    if module in registry.GROUPS:
        found = registry.attribute(module, name)
    elif module in sys.modules:
        found = getattr(importlib.import_module(module), name)
    else:
        raise CheckpointError(f"{path} was made by `{named}`, which no plugin registers")
    loaded: ZooModule = found.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    return loaded
