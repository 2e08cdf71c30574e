"""`zoo list`: what is registered, by whom. Reads metadata only; imports no torch."""

import json
from collections.abc import Iterable, Mapping, Sequence

from zoo import registry
from zoo.cli.options import Options

_GROUPS = {
    "families": registry.FAMILIES,
    "heads": ("zoo.heads",),
    "modules": ("zoo.modules",),
    "data": ("zoo.data",),
    "callbacks": ("zoo.callbacks",),
    "schedules": ("zoo.schedules",),
}
_KINDS = (*_GROUPS, "recipes", "plugins")

Row = Mapping[str, str]


def run(verb: str, arguments: list[str]) -> None:
    """Prints a table of each kind asked for, or JSON."""
    parser = Options(prog="zoo list", description="What is registered, and by which plugin.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(_KINDS))
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    chosen = parser.parse_args(arguments)
    kinds = [kind for word in chosen.kinds for kind in word.split(",") if kind]
    for kind in kinds:
        if kind not in _KINDS:
            parser.error(f"unknown kind `{kind}`; known: {', '.join(_KINDS)}")
    found = {kind: rows(kind) for kind in kinds or _KINDS}
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    for kind, listed in found.items():
        print(kind)
        print(table(listed) if listed else "  none")
        print()


def rows(kind: str) -> list[dict[str, str]]:
    """What is registered of one kind."""
    if kind == "recipes":
        return [{"name": name, "path": str(path)} for name, path in registry.recipes().items()]
    if kind == "plugins":
        return _plugins(registry.entries())
    return [_row(entry) for group in _GROUPS[kind] for entry in registry.in_group(group)]


def _row(entry: registry.Entry) -> dict[str, str]:
    row = {"name": f"{entry.group}.{entry.attribute}", "entry": entry.name}
    row |= {"plugin": f"{entry.distribution} {entry.version}", "state": entry.state}
    return row | _reason(entry)


def _reason(entry: registry.Entry) -> dict[str, str]:
    return {"reason": "; ".join(filter(None, (entry.reason, entry.remedy)))} if entry.reason else {}


def _plugins(entries: Iterable[registry.Entry]) -> list[dict[str, str]]:
    """Each distribution: its state is that of its worst entry, its reason all that is amiss."""
    found: dict[str, dict[str, str]] = {}
    for entry in entries:
        row = found.setdefault(
            entry.distribution,
            {"name": entry.distribution, "version": entry.version, "state": "ok", "registers": ""},
        )
        row["registers"] = f"{row['registers']} {entry.name}".strip()
        told = _reason(entry).get("reason") or (f"warning: {entry.warning}" if entry.warning else "")
        if entry.state != "ok":
            row["state"] = entry.state
        if told and told not in row.get("reason", ""):
            row["reason"] = "; ".join(filter(None, (row.get("reason"), told)))
    return list(found.values())


def table(listed: Sequence[Row]) -> str:
    """Rows as columns of text; a reason stands on a line of its own."""
    columns = [name for name in listed[0] if name != "reason"]
    widths = {name: max(len(row[name]) for row in listed) for name in columns}
    lines = []
    for row in listed:
        lines.append("  " + "  ".join(row[name].ljust(widths[name]) for name in columns).rstrip())
        if "reason" in row:
            lines.append(f"    {row['reason']}")
    return "\n".join(lines)
