"""A module filled from a model's files, under the head that they were saved with or under another."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_info

from zoo import registry
from zoo.errors import CheckpointError, SpecError
from zoo.hub import config as hub_config
from zoo.hub import names, weights
from zoo.layers import initialize
from zoo.specs import BackboneSpec, HeadSpec

if TYPE_CHECKING:
    from zoo.modules.base import ZooModule

_SHOWN = 4
"""Names that a line tells one by one."""


def architecture_of(config: Mapping[str, Any]) -> str:
    """What a config.json says its model was saved as; `none` where it says nothing."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else "none"


def head_of(config: Mapping[str, Any], spec: BackboneSpec) -> type[HeadSpec] | None:
    """The kind of head that a config.json says its model was saved with; None: none that is known."""
    kinds = registry.usable("zoo.heads").items()
    known = {spec.hub_head(name).architecture: kind for name, kind in kinds}
    found: type[HeadSpec] | None = known.get(architecture_of(config))
    return found


def read_head(kind: type[HeadSpec], config: Mapping[str, Any]) -> HeadSpec:
    """The head that a config.json describes.

    Raises:
        CheckpointError: What it says of the labels cannot be read.
        SpecError: It has a head of this kind that the zoo does not know.
    """
    try:
        return kind.of_config(config)
    except SpecError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError("config.json says of its labels what cannot be read") from error


def fill(module: "ZooModule", folder: Path, *, trains: bool, dry: bool = False) -> None:
    """Streams a folder's weights into a module that is built.

    Args:
        module: Its parameters have memory, unless it is a dry run.
        folder: A model in the Hub's format.
        trains: Whether a head of another kind, or with other labels, than the files' starts with fresh
            weights; what is fresh and what is left unread is then said. Otherwise its tensors must be there.
        dry: Finds out, before memory is taken, whether the files fit.

    Raises:
        CheckpointError: The files do not hold what the module needs, or hold more.
    """
    spec, config = module.spec, hub_config.read_config(folder)
    targets = names.named_targets(module.backbone, spec.weights)
    tied: dict[str, str] = {}
    optional: set[str] = set()
    twice: list[str] = []
    for name in module.heads:
        own = module.hub_head(name)
        head = module.head(name)
        tensors = names.named_targets(head, own.weights, head.not_in_files)
        if not dry:
            for part in map(dict(head.named_children()).get, head.unpublished):
                if part is not None:
                    initialize(part, spec.initializer_range)
        for mine, theirs in head.tied.items():
            tied[names.renamed(mine, own.weights)] = names.renamed(theirs, spec.weights)
        if trains and not _was_saved_with(module.head_specs[name], config, spec):
            optional |= tensors.keys()
            if not dry:
                initialize(module.heads[name], spec.initializer_range)
        twice += [f"{tensor} of {name}" for tensor in tensors if tensor in targets]
        targets |= {tensor: value for tensor, value in tensors.items() if tensor not in targets}
    streamed = _stream(module, folder, targets, tied, optional, architecture_of(config), dry=dry)
    if not dry and (streamed.missing or twice):
        left = f"; left unread: {_listed(streamed.left)}" if streamed.left else ""
        fresh = _listed([*streamed.missing, *twice])
        rank_zero_info(f"{folder} was saved as {architecture_of(config)}; fresh: {fresh}{left}")


def _was_saved_with(head: HeadSpec, config: Mapping[str, Any], spec: BackboneSpec) -> bool:
    """Whether a head is the files' own, its labels included."""
    if head_of(config, spec) is not type(head):
        return False
    try:
        return read_head(type(head), config) == head
    except (CheckpointError, SpecError):
        return False


def _stream(
    module: "ZooModule",
    folder: Path,
    targets: Mapping[str, names.Target],
    tied: Mapping[str, str],
    optional: set[str],
    architecture: str,
    *,
    dry: bool,
) -> weights.Streamed:
    spec = module.spec
    mine = {module.hub_head(name).architecture for name in module.heads} or {spec.architecture}
    # What may be fresh is not taken from what another head's files would repeat.
    aliases = {**{name: source for name, source in spec.aliases.items() if name not in optional}, **tied}
    is_other = architecture not in mine or len(mine) > 1
    others = {pattern for head in spec.heads.values() for pattern in head.weights}
    try:
        return weights.stream(
            folder,
            targets,
            aliases,
            prefix=spec.prefix,
            fused=spec.fused,
            unread=spec.unread,
            optional=optional,
            foreign=others | spec.aliases.keys() if is_other else (),
            dry=dry,
        )
    except CheckpointError as error:
        if is_other and error.hint is None:
            error.hint = (
                f"it was saved as {architecture}; a new head is trained: zoo fit, with `backbone: {folder}`"
            )
        raise


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
