"""A model's tensors and those of its files: which is which, found out before any number is read."""

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from zoo.errors import CheckpointError, did_you_mean
from zoo.hub import weights
from zoo.hub.names import Row, Target, unfused
from zoo.hub.names import match as parts_of
from zoo.layers import fill_row, part_of

_OLDER = {"gamma": "weight", "beta": "bias"}
"""How files from TensorFlow's times call a norm's tensors."""

_NONE: Mapping[str, str] = {}
_NOTHING: Mapping[str, Sequence[str]] = {}

Named = tuple[str, Tensor]
Unfuse = Callable[[Path, Iterable[Named]], Iterator[Named]]


@dataclass(frozen=True)
class Match:
    """Where a model's tensors stand in a folder's files, by names on the Hub."""

    found: dict[Path, dict[str, dict[str, str]]]
    """Of each file, its tensors, by their parts, to those of the model; most have one part, themselves."""
    copied: dict[str, str]
    """Tensors that the files leave out, to those that hold the same."""
    repeated: list[tuple[Path, str, str]]
    """Tensors of files that must hold what another one does: file, name, and the model's tensor."""
    missing: list[str]
    """Tensors that the files do not hold, or hold in another shape, and need not."""
    left: list[str]
    """Tensors of the files that belong to another head."""
    converts: bool
    """Whether numbers stand otherwise in a file than in the model: of another dtype, in parts, unstacked."""
    unfuse: Unfuse
    """A file's tensors by their parts."""


def match(
    folder: Path,
    targets: Mapping[str, Target],
    aliases: Mapping[str, str] = _NONE,
    *,
    prefix: str = "",
    others: Collection[str] = (),
    fused: Mapping[str, Sequence[str]] = _NOTHING,
    unread: Collection[str] = (),
    optional: Collection[str] = (),
    foreign: Collection[str] = (),
) -> Match:
    """Compares names, shapes and kinds.

    Args:
        folder: A model's files.
        targets: Every tensor to be filled, by its name on the Hub; it needs no memory.
        aliases: Tensors that the files may repeat or leave out, to those that hold the same.
        prefix: What the files may put before a name, or leave out there.
        others: What some files put in its place.
        fused: Tensors that the files may have in place of several, to the names of those; `unfused` says how.
        unread: Tensors that are left in the files, with `{}` for any part of a name.
        optional: Targets that the files need not hold, or may hold in another shape.
        foreign: Tensors of other heads than the targets', with `{}` for any part of a name. Where it names
            some, those that stand outside of the backbone's prefix are such, too.

    Raises:
        CheckpointError: A tensor is missing, unused or of another shape, by name.
    """
    found: dict[Path, dict[str, dict[str, str]]] = {}
    filled: set[str] = set()
    repeated: list[tuple[Path, str, str]] = []
    left: list[str] = []
    converts = False

    def unfuse(path: Path, tensors: Iterable[Named]) -> Iterator[Named]:
        return unfused(path, tensors, fused, prefix)

    places = targets.keys() | {name for name, source in aliases.items() if source in targets}
    files = {path: dict(weights.outlines(path)) for path in weights.files_of(folder)}
    is_prefixed = prefix and any(name.startswith(prefix) for tensors in files.values() for name in tensors)
    outside = prefix if foreign and is_prefixed else ""
    every = ((path, *item) for path, tensors in files.items() for item in tensors.items())
    for path, whole, name, tensor in _parts(every, unfuse):
        place = _place(name, places, prefix, others)
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
        elif tensor.shape != target.shape and place in optional:
            left.append(name)
        else:
            _require_fit(path, name, tensor, target)
            converts |= tensor.dtype != target.dtype or isinstance(target, Row) or name != whole
            found.setdefault(path, {}).setdefault(whole, {})[name] = place
            filled.add(place)
    empty = sorted(targets.keys() - filled)
    copied = {name: aliases[name] for name in empty if aliases.get(name) in filled}
    missing = [name for name in empty if name not in copied]
    if needed := [name for name in missing if name not in optional]:
        more = f" and {len(needed) - 1} more" if len(needed) > 1 else ""
        raise CheckpointError(f"tensor `{needed[0]}`{more} is missing from {folder}")
    return Match(found, copied, repeated, missing, left, converts, unfuse)


def _parts(
    every: Iterable[tuple[Path, str, Tensor]], unfuse: Unfuse
) -> Iterator[tuple[Path, str, str, Tensor]]:
    for path, whole, tensor in every:
        for name, part in unfuse(path, [(whole, tensor)]):
            yield path, whole, name, part


def _require_fit(path: Path, name: str, tensor: Tensor, target: Target) -> None:
    if tensor.shape != target.shape:
        raise CheckpointError(
            f"tensor `{name}` of {path} has shape {tuple(tensor.shape)}, "
            f"config.json asks for {tuple(target.shape)}"
        )
    if tensor.is_floating_point() != target.is_floating_point():
        raise CheckpointError(f"tensor `{name}` of {path} holds no plain floating-point numbers")


def _is_named(name: str, patterns: Collection[str], prefix: str) -> bool:
    return any(parts_of(pattern, known) for pattern in patterns for known in (name, prefix + name))


def _place(name: str, places: Container[str], prefix: str, others: Collection[str]) -> str | None:
    """A file's tensor as the model names it."""
    stem, _, last = name.rpartition(".")
    older = f"{stem}.{_OLDER[last]}" if last in _OLDER else name
    for known in (name, older):
        stems = [known.removeprefix(other) for other in others]
        for spelling in (
            known,
            prefix + known,
            known.removeprefix(prefix),
            *(prefix + stem for stem in stems),
        ):
            if spelling in places:
                return spelling
    return None


@torch.no_grad()
def copy(match: Match, targets: Mapping[str, Target]) -> None:
    """Copies the files' numbers into memory that is there already, each converted to its target's dtype.

    Raises:
        CheckpointError: A tensor is not what it must repeat, by name.
    """
    for path, tensors in match.found.items():
        for whole, tensor in weights.read(path, tensors):
            for name, part in match.unfuse(path, [(whole, tensor)]):
                if name in tensors[whole]:
                    _fill(targets[tensors[whole][name]], part)
    for name, source in match.copied.items():
        _whole(targets[name]).copy_(_whole(targets[source]))
    _require_repeated(match, targets)


def _fill(target: Target, tensor: Tensor) -> None:
    if isinstance(target, Row):
        fill_row(target.stack, target.number, tensor)
    else:
        target.copy_(part_of(tensor, target))


def _whole(target: Target) -> Tensor:
    assert isinstance(target, Tensor), "what is stacked is not repeated"
    return target


def mapped(match: Match) -> dict[str, Tensor]:
    """The model's tensors as the files have them: memory that is read from there when it is first looked at.

    A tensor is the process's own: the file is mapped privately, so whoever writes into it, as training does,
    gets a copy of that page, and the file stays as it is. A file that is replaced, as `zoo.save`, `zoo.pull`,
    safetensors and the Hub's cache do, lives on for those who have it mapped; one whose bytes were changed in
    place would be seen to change.

    Raises:
        CheckpointError: A tensor is not what it must repeat, by name.
    """
    assert not match.converts, "what stands otherwise in a file is copied"
    tensors: dict[str, Tensor] = {}
    for path, found in match.found.items():
        with weights.open_file(path) as file:
            tensors |= {parts[name]: file.get_tensor(name) for name, parts in found.items()}
    tensors |= {name: tensors[source].clone() for name, source in match.copied.items()}
    _require_repeated(match, tensors)
    return tensors


def _require_repeated(match: Match, targets: Mapping[str, Target]) -> None:
    """Refuses a file in which a tensor is not what it must repeat."""
    for path, name, source in match.repeated:
        with weights.open_file(path) as file:
            tensor = file.get_tensor(name)
        target = _whole(targets[source])
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
