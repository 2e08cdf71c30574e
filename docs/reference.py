"""Pages of reference, one for each group and each module that plugins import, made while the site is built.

mkdocs runs it as a hook; mkdocstrings fills the pages from docstrings.
"""

from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from zoo import registry
from zoo.registry import Entry

MODULES = ("zoo", "zoo.specs", "zoo.layers", "zoo.heads.base", "zoo.generation", "zoo.testing", "zoo.errors")
"""What is imported by name, beside the groups."""
GROUPS = [group for group in registry.GROUPS if group != "zoo.recipes"]  # whose page is recipes.md


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the pages at the end of the menu."""
    config.nav = [*(config.nav or ()), {"Reference": [{name: place(name)} for name in (*MODULES, *GROUPS)]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    for name in MODULES:
        text = f"# {name}\n\n::: {name}\n    options:\n      show_root_heading: false\n"
        files.append(File.generated(config, place(name), content=text))
    for group in GROUPS:
        text = "\n".join([f"# {group}\n", *(_of(entry) for entry in _first_party(group))])
        files.append(File.generated(config, place(group), content=text))
    return files


def place(name: str) -> str:
    """A page's place in the site."""
    return f"reference/{name}.md"


def _first_party(group: str) -> Iterator[Entry]:
    """What the zoo registers there, each thing once."""
    found = {entry.value: entry for entry in registry.in_group(group)}
    return (entry for entry in found.values() if entry.distribution == registry.DISTRIBUTION)


def _of(entry: Entry) -> str:
    """Under the name by which recipes call it."""
    return f"::: {entry.import_path}\n    options:\n      heading: {entry.group}.{entry.attribute}\n"
