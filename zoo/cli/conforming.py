"""`zoo plugin check`: an installed plugin by the conformance kit."""

import json
import sys

from zoo.cli.options import Options


def run(arguments: list[str]) -> None:
    """Prints what came of each check; ends with 1 where the plugin does not conform."""
    parser = Options(prog="zoo plugin check", description="Holds a plugin to what is promised of it.")
    parser.add_argument("name", metavar="NAME", help="of an installed distribution, as acme-bert")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument("--fast", action="store_true", help="leave out what compiles or starts processes")
    parser.add_argument("--api", type=int, default=None, help="an older version of the checks")
    chosen = parser.parse_args(arguments)

    from zoo.cli.defaults import quiet
    from zoo.testing import plugins
    from zoo.testing.profiles import API
    from zoo.testing.report import Report

    quiet()
    entries = plugins.entries_of(chosen.name)
    api = chosen.api or API
    report = Report(entries[0].distribution, entries[0].version, api)
    for section in plugins.sections(entries, api, fast=chosen.fast):
        report.sections.append(section)
        if not chosen.json:
            print(f"{section}\n", flush=True)
    print(json.dumps(report.to_plain(), indent=2) if chosen.json else report.summary())
    if not report.conforms:
        sys.exit(1)
