"""A run's checkpoint as a folder, to which every process wrote its part."""

import io
import pickle
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, MetadataIndex, TensorStorageMetadata

from zoo.errors import CheckpointError

_INDEX, _REST = ".metadata", "meta.pt"
"""Where what is in which file stands, and what is no tensor of the model or the optimizer."""

_PLAIN = {
    "_codecs.encode", "builtins.set", "collections.OrderedDict", "collections.defaultdict",
    "pathlib.Path", "pathlib.PosixPath", "torch.Size", "torch.device", "torch.serialization._get_layout",
}  # fmt: skip
_PLAIN_MODULES = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")


def is_sharded(path: Path) -> bool:
    """Whether a path is such a folder."""
    return path.is_dir() and (path / _REST).is_file()


class _Plain(pickle.Unpickler):
    """Reads torch's index of a checkpoint, which is pickled, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if f"{module}.{name}" in _PLAIN or module in _PLAIN_MODULES or is_dtype:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def read(path: Path) -> dict[str, Any]:
    """What the folder holds, its tensors still in the files: they have sizes and no numbers.

    Raises:
        CheckpointError: A part is missing or broken, or it holds more than tensors and plain values.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path / _REST, map_location="cpu", weights_only=True)
        with (path / _INDEX).open("rb") as file:
            index = _Plain(file).load()
        _require_whole(path, index)
        _require_plain(path, index)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, so it is not read"
        ) from error
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        raise CheckpointError(f"{path} is no checkpoint, or is cut off: {error}") from error
    checkpoint["state_dict"] = {
        name.removeprefix("state_dict."): torch.empty(entry.size, dtype=entry.properties.dtype, device="meta")
        for name, entry in index.state_dict_metadata.items()
        if name.startswith("state_dict.") and isinstance(entry, TensorStorageMetadata)
    }
    return checkpoint


def _require_whole(path: Path, index: Any) -> None:
    for place in index.storage_data.values():
        if (path / place.relative_path).stat().st_size < place.offset + place.length:
            raise CheckpointError(f"{path} is cut off: {place.relative_path} holds less than was written")


def _require_plain(path: Path, index: Any) -> None:
    """Refuses numbers and names, such as a learning rate, that are pickled as anything else."""
    for name, entry in index.state_dict_metadata.items():
        if isinstance(entry, BytesStorageMetadata):
            place = index.storage_data[MetadataIndex(name)]
            with (path / place.relative_path).open("rb") as file:
                file.seek(place.offset)
                torch.load(io.BytesIO(file.read(place.length)), weights_only=True)


def whole(path: Path) -> dict[str, Any]:
    """What the folder holds, its tensors put together; an optimizer's state is by names of parameters.

    Raises:
        CheckpointError: A part is missing or broken, or it holds more than tensors and plain values.
    """
    checkpoint = read(path)
    with (path / _INDEX).open("rb") as file:
        index = _Plain(file).load()
    parts: dict[str, dict[str, Any]] = {}
    for name, entry in index.state_dict_metadata.items():
        parts.setdefault(name.partition(".")[0], {})[name] = entry
    weights = _part(path, parts.pop("state_dict"))
    return {**checkpoint, "state_dict": weights, "optimizer_states": _Later(path, list(parts.values()))}


class _Later(Sequence[dict[str, Any]]):
    """The optimizers' states, each read when it is asked for: who only evaluates never does."""

    def __init__(self, path: Path, entries: list[dict[str, Any]]) -> None:
        self.path, self.entries = path, entries

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [_part(self.path, entries) for entries in self.entries[index]]
        return _part(self.path, self.entries[index])


def _part(path: Path, entries: dict[str, Any]) -> dict[str, Any]:
    """What the folder holds under some names that begin alike, without that beginning."""
    found: dict[str, Any] = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        if isinstance(entry, TensorStorageMetadata)
        else None
        for name, entry in entries.items()
    }
    _load(found, path)
    return {name.partition(".")[2]: value for name, value in found.items()}


def fill(module: nn.Module, path: Path) -> None:
    """Reads the folder's weights into a model, on one process.

    Raises:
        CheckpointError: They are not all there, or are not the model's.
    """
    _load({"state_dict": module.state_dict()}, path)


def _load(state: dict[str, Any], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one process is meant is said
        try:
            state_dict_loader.load(state, checkpoint_id=path, no_dist=True)
        except Exception as error:  # torch raises many kinds
            reason = textwrap.shorten(str(error), 400)
            raise CheckpointError(f"the weights of {path} cannot be read: {reason}") from error
