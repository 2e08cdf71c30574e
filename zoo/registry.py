"""Groups of registered names, read from entry points; imports no torch.

A plugin is an installed distribution with entry points in the groups below. The entry's value names the
object, and its last part is the attribute of the group: `llama = "zoo_decoders.llama:Llama"` in group
`zoo.decoders` is `zoo.decoders.Llama`. Listing reads metadata; using a name imports that one plugin.
"""

import contextlib
import functools
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.errors import PluginLoadError, RecipeError, UnknownNameError, did_you_mean, nearest
from zoo.importing import import_module

DISTRIBUTION = "lightning-zoo"

ALLOWED = "ZOO_PLUGINS"
"""The environment's list of plugins that may be used; unset, all may. What is the zoo's own always may."""

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
    """ok, incompatible, shadowed (by a first-party name), clash (of two plugins), malformed or disabled."""
    reason: str = ""
    """Why it is not ok."""
    remedy: str | None = None
    """What to do about it."""
    warning: str = ""
    """What its author should mend, though it can be used."""

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
        if self.state in UNUSABLE:
            raise PluginLoadError(f"{self.subject} is {self.state}: {self.reason}", hint=self.remedy)
        module, _, attribute = self.value.partition(":")
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is no part of an answer
                return functools.reduce(getattr, attribute.split("."), import_module(module))
        except (Exception, SystemExit) as error:
            raise PluginLoadError(
                f"{self.subject} cannot be imported: {type(error).__name__}: {error}",
                hint=f"repair or remove it: pip uninstall {self.distribution}",
            ) from error

    def is_value(self, value: object) -> bool:
        """Whether it registers this object; nothing is imported."""
        module, _, attribute = self.value.partition(":")
        found: Any = sys.modules.get(module)
        for part in attribute.split("."):
            found = getattr(found, part, None)
        return found is value

    @property
    def subject(self) -> str:
        """How messages name it."""
        return f"`{self.group}.{self.attribute}` of plugin {self.distribution} {self.version} ({self.value})"


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Every registered name of every group, ordered by group and name, with its state."""
    found: dict[tuple[str, str, str], Entry] = {}
    for entry in (entry for distribution in metadata.distributions() for entry in _entries_of(distribution)):
        key = (entry.group, entry.name, entry.value)
        found[key] = min(entry, found.get(key, entry), key=_precedence)
    ordered = sorted(found.values(), key=lambda entry: (GROUPS.index(entry.group), entry.name, entry.value))
    return tuple(_judged(entry, ordered) for entry in ordered)


def _precedence(entry: Entry) -> tuple[bool, bool, str, str]:
    """Which of two distributions that register the same is named; never the one that comes first."""
    return entry.distribution != DISTRIBUTION, entry.state != "ok", entry.distribution, entry.version


def _entries_of(distribution: metadata.Distribution) -> Iterator[Entry]:
    try:
        points = list(_points(distribution.read_text("entry_points.txt") or ""))
        if not points:
            return
        told = distribution.metadata  # read and parsed each time that it is asked for
        name, version = str(told["Name"]), str(told["Version"])
        state, reason, remedy, warning = "ok", "", None, ""
        if _normal(name) != DISTRIBUTION:
            state, reason, remedy, warning = _verdict(name, told.get_all("Requires-Dist") or ())
    except Exception:  # what cannot be read is no plugin; it must not hide the others
        return
    for group, point, value in points:
        if group != "zoo.recipes" and not _VALUE.fullmatch(value):
            why = f"its entry point must read `name = module:Attribute`, not `{point} = {value}`"
            yield Entry(group, point, value, name, version, "malformed", why, f"pip uninstall {name}")
        else:
            yield Entry(group, point, value, name, version, state, reason, remedy, warning)


UNUSABLE = ("incompatible", "malformed", "disabled")

_SILENT = f"it does not say which {DISTRIBUTION} it needs"


@functools.cache
def _installed() -> str:
    return metadata.version(DISTRIBUTION)


def _verdict(name: str, requires: Iterable[str]) -> tuple[str, str, str | None, str]:
    """State, reason, remedy and warning of a plugin as a whole."""
    allowed = os.environ.get(ALLOWED)
    if allowed is not None and _normal(name) not in map(_normal, allowed.replace(",", " ").split()):
        return (
            "disabled",
            f"{ALLOWED} does not name it",
            f"{ALLOWED}={','.join([*allowed.split(), name])}",
            "",
        )
    specifiers, installed = _needs(requires), _installed()
    for specifier in specifiers:
        if not specifier.contains(installed, prereleases=True):
            needed = f"{DISTRIBUTION}{specifier}"
            told = f"it needs {needed}, {installed} is installed"
            return "incompatible", told, f"pip install '{needed}'", ""
    return "ok", "", None, "" if specifiers else _SILENT


_VALUE = re.compile(r"[\w.]+:[\w.]*\w")


def _points(text: str) -> Iterator[tuple[str, str, str]]:
    """Group, name and value of each entry of entry_points.txt; importlib's own reader stops at a bad line."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            group = line.strip("[]")
        elif group in GROUPS and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield group, name.strip(), value.partition("[")[0].strip()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def same_name(one: str, other: str) -> bool:
    """Whether two names are of one distribution: PyPI takes dashes, dots and underscores alike."""
    return _normal(one) == _normal(other)


def _needs(requires: Iterable[str]) -> list[Any]:
    """What a distribution's own requirements say of the zoo's version; what cannot be read says nothing."""
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    for line in requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if _normal(requirement.name) == DISTRIBUTION and applies:
            found.append(requirement.specifier)
    return found


def _judged(entry: Entry, every: list[Entry]) -> Entry:
    if entry.state != "ok" or entry.distribution == DISTRIBUTION:
        return entry
    rivals = [other for other in every if other.state == "ok" and _are_rivals(entry, other)]
    if not rivals:
        return entry
    first_party = [other for other in rivals if other.distribution == DISTRIBUTION]
    rival = (first_party or rivals)[0]
    return replace(
        entry,
        state="shadowed" if first_party else "clash",
        reason=f"{rival.distribution} registers that name, too ({rival.import_path})",
        remedy=f"use {entry.import_path}",
    )


def _are_rivals(one: Entry, other: Entry) -> bool:
    """Whether two entries claim one name: of a group, or of a family among all shapes."""
    if one.value == other.value:
        return False
    if one.group != other.group:
        return one.name == other.name and {one.group, other.group} <= set(FAMILIES)
    return one.name == other.name or (one.attribute == other.attribute and one.group != "zoo.recipes")


def in_group(group: str) -> list[Entry]:
    """The entries of one group."""
    return [entry for entry in entries() if entry.group == group]


def usable(group: str) -> dict[str, Any]:
    """What the names of a group stand for, without those that cannot be used."""
    found = {}
    for entry in in_group(group):
        if entry.state == "ok":
            with contextlib.suppress(PluginLoadError):
                found[entry.attribute] = entry.load()
    return found


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

    return get, lambda: sorted({entry.attribute for entry in in_group(group)})


def family(model_type: str) -> Any:
    """The spec class of the family under the Hub's `model_type`, whatever its shape."""
    named = [entry for group in FAMILIES for entry in in_group(group) if entry.name == model_type]
    if not named:
        known = [entry.name for group in FAMILIES for entry in in_group(group)]
        close = nearest(model_type, known)
        raise UnknownNameError(
            f"no installed plugin registers the model_type `{model_type}`",
            hint=(f"did you mean `{close}`?\n" if close else "")
            + f"registered: {', '.join(sorted(known))}\n"
            + f"a plugin adds one by an entry point `{model_type}` in one of {', '.join(FAMILIES)}",
        )
    return _pick(named[0].group, model_type, named).load()


def _pick(group: str, name: str, named: list[Entry]) -> Entry:
    claims = [entry for entry in named if entry.state in ("ok", "clash")]
    usable = list({entry.value: entry for entry in claims or named}.values())
    if not usable:
        known = {entry.attribute for entry in in_group(group) if entry.state == "ok"}
        raise UnknownNameError(f"unknown name `{name}` in {group}", hint=did_you_mean(name, known))
    if len(usable) > 1:
        paths = "\n".join(f"{entry.import_path} of {entry.distribution}" for entry in usable)
        raise UnknownNameError(
            f"`{name}` in {group} is claimed by several plugins; name the one you mean by its import path",
            hint=paths,
        )
    if usable[0].state == "shadowed":
        only = usable[0]
        raise UnknownNameError(f"{only.subject} is shadowed: {only.reason}", hint=only.remedy)
    return usable[0]


def path_of(registered: type) -> str:
    """The shortest stable dotted path of a class: its group's, where it is registered."""
    for entry in entries():
        if entry.is_value(registered):
            return f"{entry.group}.{entry.attribute}" if entry.state == "ok" else entry.import_path
    return f"{registered.__module__}.{registered.__qualname__}"


def model_type_of(spec: type) -> str:
    """The `model_type` under which a family's spec class is registered."""
    names = [entry.name for entry in entries() if entry.group in FAMILIES and entry.is_value(spec)]
    return names[0] if names else spec.__name__.lower()


def used(kinds: Iterable[type]) -> dict[str, str]:
    """The distributions, with their versions, that register some classes."""
    given = list(kinds)
    found = [entry for entry in entries() if any(entry.is_value(kind) for kind in given)]
    return {
        entry.distribution: entry.version for entry in sorted(found, key=lambda entry: entry.distribution)
    }


def recipes() -> dict[str, Path]:
    """Every packaged recipe: its name, `entry/file`, and where it lies.

    The recipes of two plugins that claim one name are named by their packages.
    """
    found: dict[str, Path] = {}
    for entry in in_group("zoo.recipes"):
        if entry.state in UNUSABLE:
            continue
        prefix = entry.name if entry.state == "ok" else entry.value
        for folder in _folders(entry.value):
            for path in sorted(folder.rglob("*.yaml")):
                found.setdefault(f"{prefix}/{path.relative_to(folder).with_suffix('').as_posix()}", path)
    return found


def _folders(package: str) -> list[Path]:
    """Where a package lies; nothing of it is imported."""
    top, *inner = package.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # a broken plugin must not hide the others' recipes
        spec = None
    places = (spec.submodule_search_locations or ()) if spec else ()
    return [Path(place, *inner) for place in places]


def recipe_path(name: str, folder: Path | None = None) -> Path:
    """The file of a recipe, given as a path (from `folder`, if any) or as a packaged name.

    Raises:
        RecipeError: There is neither, or two plugins claim the name.
    """
    for candidate in ((folder / name) if folder else Path(name), Path(name)):
        if candidate.is_file():
            return candidate
    packaged, plain = recipes(), name.removesuffix(".yaml")
    if plain in packaged:
        return packaged[plain]
    group, _, rest = plain.partition("/")
    claims = [entry for entry in in_group("zoo.recipes") if entry.name == group and entry.state == "clash"]
    if claims:
        raise RecipeError(
            f"the recipes `{group}` are claimed by several plugins; name the one you mean by its package",
            hint="\n".join(f"{entry.value}/{rest} of {entry.distribution}" for entry in claims),
        )
    raise RecipeError(
        f"no recipe `{name}`, neither a file nor a packaged name", hint=did_you_mean(name, packaged)
    )
