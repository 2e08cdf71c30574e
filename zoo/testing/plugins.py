"""A whole plugin: each thing that it registers, by the profile of its kind."""

from collections.abc import Callable, Iterator
from typing import Any

from zoo import registry
from zoo.errors import PluginLoadError, UnknownNameError, did_you_mean
from zoo.testing.checks import Outcome, require_known, run
from zoo.testing.data import DataSubject
from zoo.testing.families import Family
from zoo.testing.heads import HeadSubject
from zoo.testing.modules import ModuleSubject
from zoo.testing.profiles import API, profile
from zoo.testing.recipes import RecipesSubject
from zoo.testing.report import Section

SUBJECTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(registry.FAMILIES, ("family", Family)),
    "zoo.heads": ("head", HeadSubject),
    "zoo.data": ("data", DataSubject),
    "zoo.modules": ("module", ModuleSubject),
    "zoo.recipes": ("recipes", RecipesSubject),
}
LOADS = "its_entry_point_leads_to_it"
_LOADS = "What the entry point names is imported, and is what its group holds."
_FAST = "it takes seconds; it is left out by --fast"


def entries_of(plugin: str) -> list[registry.Entry]:
    """What a distribution registers, each thing once.

    Raises:
        UnknownNameError: None of that name registers anything.
    """
    found = [entry for entry in registry.entries() if registry.same_name(entry.distribution, plugin)]
    if not found:
        known = {entry.distribution for entry in registry.entries()}
        raise UnknownNameError(
            f"no plugin `{plugin}` is installed", hint=f"pip install it first\n{did_you_mean(plugin, known)}"
        )
    return list({(entry.group, entry.value): entry for entry in reversed(found)}.values())[::-1]


def sections(entries: list[registry.Entry], api: int = API, *, fast: bool = False) -> Iterator[Section]:
    """The checks of each thing, one after the other.

    Args:
        entries: Of one plugin.
        api: The version of the profiles.
        fast: Whether checks that take seconds are left out.
    """
    for entry in entries:
        kind, subject = SUBJECTS.get(entry.group, (entry.group.partition(".")[2], None))
        name = f"{entry.group}.{entry.attribute}" if kind != "recipes" else f"recipes {entry.name}"
        outcomes, found = [], None
        try:
            found = entry.name if kind == "recipes" else _loaded(entry)
            outcomes.append(Outcome(LOADS, _LOADS, "passed"))
        except (PluginLoadError, UnknownNameError) as error:
            outcomes.append(Outcome(LOADS, _LOADS, "failed", str(error)))
        if found is not None and subject is not None:
            outcomes += _outcomes(kind, subject(found), getattr(found, "expected_failures", {}), api, fast)
        yield Section(name, kind, outcomes)


def _loaded(entry: registry.Entry) -> Any:
    """The object, which must be what the bare name leads to."""
    if entry.state != "ok":
        raise PluginLoadError(f"{entry.subject} is {entry.state}: {entry.reason}", hint=entry.remedy)
    return entry.load()


def _outcomes(kind: str, subject: Any, expected: dict[str, str], api: int, fast: bool) -> Iterator[Outcome]:
    checks = profile(kind, api)
    require_known(expected, checks)
    for check in checks:
        if check.is_slow and fast:
            yield Outcome(check.name, check.sentence, "skipped", _FAST)
        else:
            yield run(check, subject, expected)
