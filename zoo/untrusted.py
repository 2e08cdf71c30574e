"""What a file from elsewhere says, held against what is expected, before anything is made of it."""

import dataclasses
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from zoo import registry
from zoo.errors import CheckpointError, SpecError


def require_size(path: Path, most: int) -> None:
    """Refuses a file that is too large to be what its name says, before it is read.

    Raises:
        CheckpointError: With its size and the limit.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    require_bytes(str(path), size, most)


def require_bytes(name: str, size: int, most: int) -> None:
    """Refuses a file by the size that its repository says it has, before it is fetched.

    Raises:
        CheckpointError: With its size and the limit.
    """
    if size > most:
        raise CheckpointError(f"{name} has {size:,} bytes; no such file needs more than {most:,}")


def require_types(spec: type, values: Mapping[str, Any]) -> None:
    """Refuses values of JSON that a dataclass's fields do not take; unknown keys are left to others.

    Raises:
        SpecError: With the key, what it takes and what was got.
    """
    for name, hint in get_type_hints(spec).items():
        if name in values and not fits(values[name], hint):
            raise SpecError(
                f"`{name}` of {registry.path_of(spec)} must be {_said(hint)}, got {short(values[name])}",
                at=name,
            )


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a type; whole numbers serve as others, and true is no number."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, kind) for kind in inner)
    if origin is Literal:
        return value in inner
    if origin is list:
        return isinstance(value, list) and all(fits(item, inner[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(fits(item, inner[1]) for item in value.values())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        # Which of several words it may be, the class itself says best.
        loose = {key: str if get_origin(kind) is Literal else kind for key, kind in hints.items()}
        return isinstance(value, dict) and all(
            fits(item, loose[key]) for key, item in value.items() if key in loose
        )
    if hint in (None, type(None)):
        return value is None
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _said(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def short(value: Any) -> str:
    """A value as a sentence can hold it."""
    if isinstance(value, int) and abs(value) > 10**20:
        return "a number beyond all bounds"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
