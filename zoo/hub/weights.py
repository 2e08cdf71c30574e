"""Weights under the Hub's names, streamed from and to safetensors."""

import pickle
import re
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from zoo.errors import CheckpointError, did_you_mean
from zoo.hub.config import read_json
from zoo.hub.names import Row, Target, match, unfused
from zoo.layers import fill_row, part_of

FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"

PICKLES = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")
"""What weights are called where they are pickled."""

# A file's mapped pages count as the process's memory until it is closed; reopening bounds them.
_REOPEN_BYTES = 2**24

_OLDER = {"gamma": "weight", "beta": "bias"}
"""How files from TensorFlow's times call a norm's tensors."""

_NONE: Mapping[str, str] = {}
_NOTHING: Mapping[str, Sequence[str]] = {}
_TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def files_of(folder: Path) -> list[Path]:
    """The safetensors files of a model's folder.

    Raises:
        CheckpointError: There are none, or the index names what is not there.
    """
    if (folder / FILE).is_file():
        return [folder / FILE]
    index = folder / INDEX_FILE
    if not index.is_file():
        raise CheckpointError(f"{folder} holds no {FILE}", hint="pickled weights are not read")
    there = {path.name for path in folder.iterdir() if path.is_file()}
    return [folder / name for name in shards_of(index, there)]


def shards_of(index: Path, there: Container[str]) -> list[str]:
    """The files that an index names, each of which must be there.

    Raises:
        CheckpointError: One is not, or lies elsewhere.
    """
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no `weight_map`, so it names no file")
    names = sorted(set(map(str, weight_map.values())))
    for name in names:
        if Path(name).name != name or name not in there:
            raise CheckpointError(f"{index} names `{name}`, which is no file beside it")
        if not name.endswith(".safetensors"):
            raise CheckpointError(f"{index} names `{name}`, which is no safetensors file")
    return names


def convert(pickles: list[Path], folder: Path) -> None:
    """Writes the tensors of pickled files as model.safetensors; of the pickles nothing else is read.

    Raises:
        CheckpointError: One holds more than tensors by name, or cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    for path in pickles:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(f"{path} holds more than tensors, so it is not read") from error
        except Exception as error:  # torch raises many kinds for a file that is none of its own
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
            raise CheckpointError(f"{path} holds more than tensors by name, so it is not read")
        tensors |= {str(name): tensor.clone() for name, tensor in found.items()}  # some share memory
    write(tensors, folder)


def dtype_of(folder: Path) -> torch.dtype:
    """The dtype of the first floating-point tensor of a model's files."""
    for path in files_of(folder):
        with _open(path) as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                dtype = _TORCH_DTYPES.get(file.get_slice(name).get_dtype())
                if dtype is not None:
                    return dtype
    return torch.float32


@dataclass(frozen=True)
class Streamed:
    """What a stream left open, by names on the Hub."""

    missing: list[str] = field(default_factory=list)
    """Tensors that the files do not hold, or hold in another shape, and need not."""
    left: list[str] = field(default_factory=list)
    """Tensors of the files that belong to another head."""


@torch.no_grad()
def stream(
    folder: Path,
    targets: Mapping[str, Target],
    aliases: Mapping[str, str] = _NONE,
    *,
    prefix: str = "",
    fused: Mapping[str, Sequence[str]] = _NOTHING,
    unread: Collection[str] = (),
    optional: Collection[str] = (),
    foreign: Collection[str] = (),
    dry: bool = False,
) -> Streamed:
    """Copies a folder's tensors into memory that is there already, each converted to its target's dtype.

    Args:
        folder: A model's files.
        targets: Every tensor to be filled, by its name on the Hub.
        aliases: Tensors that the files may repeat or leave out, to those that hold the same.
        prefix: What the files may put before a name, or leave out there.
        fused: Tensors that the files may have in place of several, to the names of those; `unfused` says how.
        unread: Tensors that are left in the files, with `{}` for any part of a name.
        optional: Targets that the files need not hold, or may hold in another shape.
        foreign: Tensors of other heads than the targets', with `{}` for any part of a name. Where it names
            some, those that stand outside of the backbone's prefix are such, too.
        dry: Compares names, shapes and kinds alone; the targets need no memory.

    Raises:
        CheckpointError: A tensor is missing, unused, of another shape, or not what it must repeat, by name.
    """
    filled: set[str] = set()
    left: list[str] = []
    places = targets.keys() | {name for name, source in aliases.items() if source in targets}
    repeated: list[tuple[Path, str, str]] = []
    paths = files_of(folder)
    outside = prefix if foreign and prefix and _any_starts_with(paths, prefix) else ""
    for path in paths:
        for name, tensor in unfused(path, _outlines(path) if dry else _tensors(path), fused, prefix):
            place = _place(name, places, prefix)
            if place is None:
                if _is_named(name, unread, prefix):
                    continue
                if _is_named(name, foreign, prefix) or (outside and not name.startswith(outside)):
                    left.append(name)
                    continue
                raise CheckpointError(
                    f"tensor `{name}` of {path} has no place in the model", hint=did_you_mean(name, targets)
                )
            target = targets.get(place)
            if target is None:
                repeated.append((path, name, aliases[place]))
                continue
            if tensor.shape != target.shape:
                if place in optional:
                    left.append(name)
                    continue
                raise CheckpointError(
                    f"tensor `{name}` of {path} has shape {tuple(tensor.shape)}, "
                    f"config.json asks for {tuple(target.shape)}"
                )
            if tensor.is_floating_point() != target.is_floating_point():
                raise CheckpointError(f"tensor `{name}` of {path} holds no plain floating-point numbers")
            if not dry:
                _fill(target, tensor)
            filled.add(place)
    missing = sorted(targets.keys() - filled)
    for name in [name for name in missing if aliases.get(name) in filled]:
        if not dry:
            _whole(targets[name]).copy_(_whole(targets[aliases[name]]))
        missing.remove(name)
    if needed := [name for name in missing if name not in optional]:
        more = f" and {len(needed) - 1} more" if len(needed) > 1 else ""
        raise CheckpointError(f"tensor `{needed[0]}`{more} is missing from {folder}")
    for path, name, source in () if dry else repeated:
        _require_repeated(path, name, source, _whole(targets[source]))
    return Streamed(missing, left)


def _fill(target: Target, tensor: Tensor) -> None:
    if isinstance(target, Row):
        fill_row(target.stack, target.number, tensor)
    else:
        target.copy_(part_of(tensor, target))


def _whole(target: Target) -> Tensor:
    assert isinstance(target, Tensor), "what is stacked is not repeated"
    return target


def _any_starts_with(paths: list[Path], prefix: str) -> bool:
    for path in paths:
        with _open(path) as file:
            if any(name.startswith(prefix) for name in file.keys()):  # noqa: SIM118 - not a mapping
                return True
    return False


def _is_named(name: str, patterns: Collection[str], prefix: str) -> bool:
    return any(match(pattern, known) for pattern in patterns for known in (name, prefix + name))


def _place(name: str, places: Container[str], prefix: str) -> str | None:
    """A file's tensor as the model names it."""
    stem, _, last = name.rpartition(".")
    older = f"{stem}.{_OLDER[last]}" if last in _OLDER else name
    for known in (name, older):
        for spelling in (known, prefix + known, known.removeprefix(prefix)):
            if spelling in places:
                return spelling
    return None


def _require_repeated(path: Path, name: str, source: str, target: Tensor) -> None:
    """Refuses a file in which a tensor is not what it must repeat."""
    with _open(path) as file:
        tensor = file.get_tensor(name)
    if target.shape != tensor.shape or not _holds(target, tensor):
        raise CheckpointError(
            f"tensor `{name}` of {path} differs from `{source}`, with which config.json ties it",
            hint="set tie_word_embeddings to false in config.json, if that is what was trained",
        )


def _holds(target: Tensor, tensor: Tensor) -> bool:
    """Whether a target holds a tensor; of one that is spread over processes, this one's part."""
    mine, theirs = (
        (part.to_local() if isinstance(part, DTensor) else part).cpu()
        for part in (target, part_of(tensor.to(target.dtype), target))
    )
    return torch.equal(mine, theirs)


def _open(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no safetensors file, or is cut off: {error}") from error


def _outlines(path: Path) -> Iterator[tuple[str, Tensor]]:
    """A file's tensors without their numbers."""
    with _open(path) as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            part = file.get_slice(name)
            dtype = _TORCH_DTYPES.get(part.get_dtype(), torch.uint8)
            yield name, torch.empty(part.get_shape(), dtype=dtype, device="meta")


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    with _open(path) as file:
        names = list(file.keys())
    while names:
        taken = 0
        with _open(path) as file:
            while names and taken < _REOPEN_BYTES:
                name = names.pop(0)
                tensor = file.get_tensor(name)
                taken += tensor.nbytes
                yield name, tensor


def write(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Writes model.safetensors."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / FILE, metadata={"format": "pt"})
