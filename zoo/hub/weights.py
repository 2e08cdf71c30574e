"""Weights under the Hub's names, read from and written to safetensors."""

import pickle
import re
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from zoo.errors import CheckpointError
from zoo.hub.config import read_json

FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"

PICKLES = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")
"""What weights are called where they are pickled."""

# A file's mapped pages count as the process's memory until it is closed; reopening bounds them.
_REOPEN_BYTES = 2**24

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
        with open_file(path) as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                dtype = _TORCH_DTYPES.get(file.get_slice(name).get_dtype())
                if dtype is not None:
                    return dtype
    return torch.float32


def open_file(path: Path) -> safe_open:
    """A safetensors file, none of whose numbers are read yet.

    Raises:
        CheckpointError: It is none, or is cut off.
    """
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no safetensors file, or is cut off: {error}") from error


def outlines(path: Path) -> Iterator[tuple[str, Tensor]]:
    """A file's tensors without their numbers."""
    with open_file(path) as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            part = file.get_slice(name)
            dtype = _TORCH_DTYPES.get(part.get_dtype(), torch.uint8)
            yield name, torch.empty(part.get_shape(), dtype=dtype, device="meta")


def read(path: Path, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    """Some of a file's tensors, one by one; each is to be copied before the next is asked for."""
    waiting = deque(names)
    while waiting:
        taken = 0
        with open_file(path) as file:
            while waiting and taken < _REOPEN_BYTES:
                name = waiting.popleft()
                tensor = file.get_tensor(name)
                taken += tensor.nbytes
                yield name, tensor


def write(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Writes model.safetensors."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / FILE, metadata={"format": "pt"})
