"""Groups of registered names, read from entry points; imports no torch.

A plugin is an installed distribution with entry points in the groups below. The entry's value names the
object, and its last part is the attribute of the group: `llama = "zoo_decoders.llama:Llama"` in group
`zoo.decoders` is `zoo.decoders.Llama`. Listing reads metadata; using a name imports that one plugin.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.errors import PluginLoadError, RecipeError, UnknownNameError, did_you_mean

DISTRIBUTION = "lightning-zoo"

FAMILIES = ("zoo.encoders", "zoo.decoders", "zoo.encoder_decoders")
GROUPS = (*FAMILIES, "zoo.heads", "zoo.modules", "zoo.data", "zoo.callbacks", "zoo.schedules", "zoo.recipes")


@dataclass(frozen=True)
class Entry:
    """One registered name: what its distribution's metadata says, and whether it can be used."""

    group: str
    name: str
    """The entry's own name; for a family, the Hub's `model_type`."""
    value: str
    """Import path, `module:Attribute`; for recipes, a package."""
    distribution: str
    version: str
    state: str = "ok"
    """ok, incompatible, shadowed (by a first-party name), clash (of two plugins) or malformed."""
    reason: str = ""
    """Why it is not ok, with the remedy."""

    @property
    def attribute(self) -> str:
        """The name in its group: `Llama` of `zoo.decoders.Llama`."""
        return self.value.rpartition(":")[2].rpartition(".")[2]

    @property
    def import_path(self) -> str:
        """The dotted path that always works as a `class_path`."""
        return self.value.replace(":", ".")

    def load(self) -> Any:
        """Imports the object.

        Raises:
            PluginLoadError: The plugin is incompatible, or its import fails.
        """
        if self.state in ("incompatible", "malformed"):
            raise PluginLoadError(f"{self._subject} is {self.state}: {self.reason}")
        module, _, attribute = self.value.partition(":")
        try:
            return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
        except (Exception, SystemExit) as error:
            raise PluginLoadError(
                f"{self._subject} cannot be imported: {type(error).__name__}: {error}",
                hint=f"repair or remove it: pip uninstall {self.distribution}",
            ) from error

    @property
    def _subject(self) -> str:
        return f"`{self.group}.{self.attribute}` of plugin {self.distribution} {self.version} ({self.value})"


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Every registered name of every group, ordered by group and name, with its state."""
    found = {
        (entry.group, entry.name, entry.value): entry
        for distribution in metadata.distributions()
        for entry in _entries_of(distribution)
    }
    ordered = sorted(found.values(), key=lambda entry: (GROUPS.index(entry.group), entry.name, entry.value))
    return tuple(_judge(entry, ordered) for entry in ordered)


def _entries_of(distribution: metadata.Distribution) -> Iterator[Entry]:
    mine = [point for point in distribution.entry_points if point.group in GROUPS]
    if not mine:
        return
    name, version = distribution.metadata["Name"], distribution.version
    reason = _incompatibility(distribution) if name != DISTRIBUTION else ""
    for point in mine:
        state, why = ("incompatible", reason) if reason else ("ok", "")
        if point.group != "zoo.recipes" and not all(part.strip() for part in _halves(point.value)):
            state, why = "malformed", f"its entry point must read `module:Attribute`, not `{point.value}`"
        yield Entry(point.group, point.name, point.value, name, version, state, why)


def _halves(value: str) -> tuple[str, str]:
    module, _, attribute = value.partition(":")
    return module, attribute


def _incompatibility(distribution: metadata.Distribution) -> str:
    """Why the distribution's own requirement excludes the installed zoo, or nothing."""
    from packaging.requirements import InvalidRequirement, Requirement

    installed = metadata.version(DISTRIBUTION)
    for line in distribution.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.name.replace("_", "-").lower() != DISTRIBUTION:
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            return f"it needs {requirement}, {installed} is installed; pip install '{requirement}'"
    return ""


def _judge(entry: Entry, every: list[Entry]) -> Entry:
    rivals = [
        other
        for other in every
        if other.group == entry.group
        and other.value != entry.value
        and (
            other.name == entry.name or (other.attribute == entry.attribute and entry.group != "zoo.recipes")
        )
    ]
    if entry.state != "ok" or entry.distribution == DISTRIBUTION or not rivals:
        return entry
    first_party = [other for other in rivals if other.distribution == DISTRIBUTION]
    if first_party:
        state, rival = "shadowed", first_party[0]
    else:
        state, rival = "clash", rivals[0]
    reason = f"{rival.distribution} registers that name, too ({rival.import_path}); use {entry.import_path}"
    return Entry(
        entry.group, entry.name, entry.value, entry.distribution, entry.version, state=state, reason=reason
    )


def in_group(group: str) -> list[Entry]:
    """The entries of one group."""
    return [entry for entry in entries() if entry.group == group]


def attribute(group: str, name: str) -> Any:
    """The object that is `group.name`, imported on first use.

    Raises:
        UnknownNameError: Nothing of that name is registered, or two plugins claim it.
        PluginLoadError: It is registered and cannot be imported.
    """
    return _pick(group, name, [entry for entry in in_group(group) if entry.attribute == name]).load()


def namespace(group: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` that make a module the namespace of its group."""

    def get(name: str) -> Any:
        if name.startswith("__"):  # asked by Python's own machinery, never registered
            raise AttributeError(name)
        return attribute(group, name)

    return get, lambda: sorted(entry.attribute for entry in in_group(group))


def family(model_type: str) -> Any:
    """The spec class of the family under the Hub's `model_type`, whatever its shape."""
    named = [entry for group in FAMILIES for entry in in_group(group) if entry.name == model_type]
    if not named:
        known = [entry.name for group in FAMILIES for entry in in_group(group)]
        raise UnknownNameError(
            f"no installed plugin registers the model_type `{model_type}`",
            hint=did_you_mean(model_type, known),
        )
    return _pick(named[0].group, model_type, named).load()


def _pick(group: str, name: str, named: list[Entry]) -> Entry:
    usable = [entry for entry in named if entry.state != "shadowed"]
    if not usable:
        known = [entry.attribute for entry in in_group(group) if entry.state != "shadowed"]
        raise UnknownNameError(f"unknown name `{name}` in {group}", hint=did_you_mean(name, known))
    if len(usable) > 1:
        paths = "\n".join(f"{entry.import_path} of {entry.distribution}" for entry in usable)
        raise UnknownNameError(
            f"`{group}.{name}` is claimed by several plugins; name the one you mean by its import path",
            hint=paths,
        )
    return usable[0]


def path_of(registered: type) -> str:
    """The shortest stable dotted path of a class: its group's, where it is registered."""
    value = f"{registered.__module__}:{registered.__qualname__}"
    for entry in entries():
        if entry.value == value and entry.state == "ok":
            return f"{entry.group}.{entry.attribute}"
    return value.replace(":", ".")


def model_type_of(spec: type) -> str:
    """The `model_type` under which a family's spec class is registered."""
    value = f"{spec.__module__}:{spec.__qualname__}"
    names = [entry.name for entry in entries() if entry.value == value and entry.group in FAMILIES]
    return names[0] if names else spec.__name__.lower()


def recipes() -> dict[str, Path]:
    """Every packaged recipe: its name, `entry/file`, and where it lies."""
    found: dict[str, Path] = {}
    for entry in in_group("zoo.recipes"):
        if entry.state not in ("ok", "clash"):
            continue
        try:
            package = importlib.util.find_spec(entry.value)
        except (Exception, SystemExit):  # a broken plugin must not hide the others' recipes
            package = None
        for folder in (package.submodule_search_locations or ()) if package else ():
            for path in sorted(Path(folder).rglob("*.yaml")):
                name = f"{entry.name}/{path.relative_to(folder).with_suffix('').as_posix()}"
                found.setdefault(name, path)
    return found


def recipe_path(name: str, folder: Path | None = None) -> Path:
    """The file of a recipe, given as a path (from `folder`, if any) or as a packaged name.

    Raises:
        RecipeError: There is neither.
    """
    for candidate in ((folder / name) if folder else Path(name), Path(name)):
        if candidate.is_file():
            return candidate
    packaged = recipes()
    if name.removesuffix(".yaml") in packaged:
        return packaged[name.removesuffix(".yaml")]
    raise RecipeError(
        f"no recipe `{name}`, neither a file nor a packaged name", hint=did_you_mean(name, packaged)
    )
