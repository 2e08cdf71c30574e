"""A module filled from a model's files, under the head that they were saved with or under another."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from zoo import registry
from zoo.errors import CheckpointError, SpecError
from zoo.hub import config as hub_config
from zoo.hub import matching, names
from zoo.hub.matching import Match
from zoo.hub.telling import tell
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
    entries = [entry for entry in registry.in_group("zoo.heads") if entry.state == "ok"]
    named = {spec.hub_head(entry.attribute).architecture: entry for entry in entries}
    entry = named.get(architecture_of(config))
    return None if entry is None else entry.load()


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


@dataclass(frozen=True)
class Plan:
    """How a module gets its weights from a folder, as the files' headers tell."""

    folder: Path
    saved_as: str
    """The entry of config.json's `architectures`."""
    match: Match
    fresh: list[nn.Module]
    """Heads, or parts of them, that start with weights of their own, before what the files hold of them."""
    twice: list[str]
    """Tensors that an earlier head has under the same name, and takes."""

    @property
    def can_map(self) -> bool:
        """Whether the files hold every number as the module is to have it."""
        return not (self.match.converts or self.match.missing or self.fresh)


def plan(module: "ZooModule", folder: Path, *, trains: bool) -> Plan:
    """Finds out, before memory is taken, whether a folder's files fit a module that is built.

    Args:
        module: It needs no memory.
        folder: A model in the Hub's format.
        trains: Whether a head of another kind, or with other labels, than the files' starts with fresh
            weights. Otherwise its tensors must be there.

    Raises:
        CheckpointError: The files do not hold what the module needs, or hold more.
    """
    spec, config = module.spec, hub_config.read_config(folder)
    targets = names.named_targets(module.backbone, spec.weights)
    tied: dict[str, str] = {}
    optional: set[str] = set()
    fresh: list[nn.Module] = []
    twice: list[str] = []
    for name in module.heads:
        own, head = module.hub_head(name), module.head(name)
        tensors = names.named_targets(head, own.weights, head.not_in_files)
        parts = dict(head.named_children())
        fresh += [parts[part] for part in head.unpublished if part in parts]
        for mine, theirs in head.tied.items():
            tied[names.renamed(mine, own.weights)] = names.renamed(theirs, spec.weights)
        if trains and not _was_saved_with(module.head_specs[name], config, spec):
            optional |= tensors.keys()
            fresh.append(head)
        elif not tensors.keys().isdisjoint(targets):
            fresh.append(head)
        twice += [f"{tensor} of {name}" for tensor in tensors if tensor in targets]
        targets = {**tensors, **targets}
    match = _match(module, folder, targets, tied, optional, architecture_of(config))
    return Plan(folder, architecture_of(config), match, fresh, twice)


def fill(module: "ZooModule", plan: Plan) -> None:
    """Copies a folder's weights into a module whose parameters have memory, and says what is fresh."""
    for part in plan.fresh:
        initialize(part, module.spec.initializer_range)
    tensors = [names.named_targets(module.backbone, module.spec.weights)]
    for name in module.heads:
        head = module.head(name)
        tensors.append(names.named_targets(head, module.hub_head(name).weights, head.not_in_files))
    matching.copy(plan.match, {name: value for part in reversed(tensors) for name, value in part.items()})
    if plan.match.missing or plan.twice:
        left = f"; left unread: {_listed(plan.match.left)}" if plan.match.left else ""
        fresh = _listed([*plan.match.missing, *plan.twice])
        tell(f"{plan.folder} was saved as {plan.saved_as}; fresh: {fresh}{left}")


def map_files(module: "ZooModule", plan: Plan) -> None:
    """Makes a folder's files the memory of a module that has none: see `matching.mapped`."""
    tensors = matching.mapped(plan.match)
    parts = [(module.backbone, module.spec.weights)]
    parts += [(head, module.hub_head(name).weights) for name, head in module.heads.items()]
    for part, table in parts:
        own = {name: tensors.get(names.renamed(name, table)) for name in part.state_dict()}
        found = {name: tensor for name, tensor in own.items() if tensor is not None}
        part.load_state_dict(found, strict=False, assign=True)


def _was_saved_with(head: HeadSpec, config: Mapping[str, Any], spec: BackboneSpec) -> bool:
    """Whether a head is the files' own, its labels included."""
    if head_of(config, spec) is not type(head):
        return False
    try:
        return read_head(type(head), config) == head
    except (CheckpointError, SpecError):
        return False


def _match(
    module: "ZooModule",
    folder: Path,
    targets: Mapping[str, names.Target],
    tied: Mapping[str, str],
    optional: set[str],
    architecture: str,
) -> Match:
    spec = module.spec
    mine = {module.hub_head(name).architecture for name in module.heads} or {spec.architecture}
    # What may be fresh is not taken from what another head's files would repeat.
    aliases = {**{name: source for name, source in spec.aliases.items() if name not in optional}, **tied}
    is_other = architecture not in mine or len(mine) > 1
    others = {pattern for head in spec.heads.values() for pattern in head.weights}
    try:
        return matching.match(
            folder,
            targets,
            aliases,
            prefix=spec.prefix,
            others={head.prefix for head in spec.heads.values() if head.prefix and head.is_bare},
            fused=spec.fused,
            unread=spec.unread,
            optional=optional,
            foreign=others | spec.aliases.keys() if is_other else (),
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
