"""`zoo plugin new`: a package that works as it stands, from templates in `zoo/scaffold`. Imports no torch.

A template is a plugin of the name your-plugin; its three spellings are replaced.
"""

import keyword
import re
import sys
from importlib import metadata, util
from pathlib import Path

from zoo import registry
from zoo.cli.options import Options
from zoo.errors import RecipeError, ZooError

TEMPLATES = Path(__file__).parents[1] / "scaffold"
SHAPES = {
    "encoder": "zoo.encoders",
    "decoder": "zoo.decoders",
    "encoder-decoder": "zoo.encoder_decoders",
}
KINDS = {"head": "zoo.heads", "data": "zoo.data", "module": "zoo.modules", "recipes": "zoo.recipes"}

_ENTRY_POINTS = "# entry points\n"


def run(arguments: list[str]) -> None:
    """Writes a plugin into a new folder, and says what to do next."""
    parser = Options(prog="zoo plugin new", description="Writes a plugin that works as it stands.")
    parser.add_argument("name", metavar="NAME", help="of the distribution, as acme-bert; its folder's, too")
    parser.add_argument("--shape", choices=SHAPES, help="a family of this shape")
    parser.add_argument("--kind", choices=KINDS, help="something else than a family")
    parser.add_argument("--to", type=Path, default=Path(), help="the folder in which it is made")
    chosen = parser.parse_args(arguments)
    if (chosen.shape is None) == (chosen.kind is None):
        parser.error("say either --shape, for a family, or --kind")
    template = chosen.shape or chosen.kind
    _require_free(chosen.name, {**SHAPES, **KINDS}[template])
    folder = write(chosen.name, template, chosen.to)
    print(f"{folder} is a plugin. Next:")
    print(
        f"  pip install -e {folder}\n  zoo plugin check {chosen.name}\n  zoo fit --config {chosen.name}/tiny"
    )


def write(name: str, template: str, place: Path) -> Path:
    """Writes the files.

    Args:
        name: Of the distribution.
        template: A shape or a kind.
        place: Where its folder is made.

    Raises:
        ZooError: There is such a folder already, or none in which to make it.
    """
    folder = place / name
    if not place.is_dir():
        raise ZooError(f"there is no folder {place}", hint="make it first")
    if folder.exists():
        raise ZooError(f"{folder} is there already", hint="choose another name, or another folder by --to")
    for source, path in _files(template):
        target = folder / _spelled(path, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_spelled(_text(source, template), name), "utf-8")
    return folder


def _files(template: str) -> list[tuple[Path, str]]:
    """The templates' files, and where each goes."""
    found = []
    for root in (TEMPLATES / "common", TEMPLATES / template):
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if path.is_file() and path.name != "entry_points.toml" and "__pycache__" not in inside.parts:
                found.append((path, "/".join(part.replace("dot_", ".") for part in inside.parts)))
    return found


def _text(source: Path, template: str) -> str:
    text = source.read_text("utf-8")
    if source.name == "pyproject.toml":
        entry_points = (TEMPLATES / template / "entry_points.toml").read_text("utf-8")
        version = metadata.version(registry.DISTRIBUTION)
        text = text.replace(_ENTRY_POINTS, entry_points)
        text = text.replace(f'"{registry.DISTRIBUTION}"', f'"{registry.DISTRIBUTION}>={version}"')
    return text


def _spelled(text: str, name: str) -> str:
    module, words = name.replace("-", "_"), "".join(map(str.title, name.split("-")))
    return text.replace("your-plugin", name).replace("your_plugin", module).replace("YourPlugin", words)


def _require_free(name: str, group: str) -> None:
    """Refuses a name that is none, or that something else has.

    Raises:
        RecipeError: With the rule that it breaks.
    """
    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        close = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()).strip("-")
        hint = f"did you mean `{close}`?" if re.match("[a-z]", close) else "as acme-bert"
        raise RecipeError(f"a plugin is named by small letters, digits and dashes, got `{name}`", hint=hint)
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise RecipeError(f"`{module}` is a word of Python's own", hint=f"did you mean `acme-{name}`?")
    spelled = _spelled("YourPlugin", name)
    taken = [
        entry for entry in registry.in_group(group) if spelled == entry.attribute or module == entry.name
    ]
    if taken:
        raise RecipeError(
            f"`{taken[0].name}` is registered in {group} by {taken[0].distribution}",
            hint=f"did you mean `acme-{name}`?",
        )
    if util.find_spec(module) is not None:
        raise RecipeError(f"a module `{module}` is installed already", hint=f"did you mean `acme-{name}`?")
