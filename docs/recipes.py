"""What each packaged recipe trains on what: the table of docs/recipes.md, made of the recipes themselves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pages import table, written

from zoo import registry
from zoo.cli import recipes

PAGE = Path(__file__).with_suffix(".md")
PLACES = ("quickstart", "pretrain", "finetune", "chat")


def named(node: dict[str, Any]) -> str:
    """A class, without its module."""
    return str(node["class_path"]).rpartition(".")[2]


def sources(data: dict[str, Any]) -> Iterator[str]:
    """Where data comes from."""
    arguments = data.get("init_args", {})
    for part in arguments.get("parts", {}).values():
        yield from sources(part)
    if "parts" not in arguments:
        yield f"`{arguments['source']}`" if "source" in arguments else named(data)


def heads(model: dict[str, Any]) -> list[str]:
    """What a model learns to tell."""
    arguments = model["init_args"]
    given = [arguments["head"]] if arguments.get("head") else list(arguments.get("heads", {}).values())
    alone = {"DecoderModule": ["CausalLM"], "EncoderDecoderModule": ["Seq2SeqLM"]}
    return [named(head) for head in given] or alone.get(named(model), [])


def row(name: str) -> dict[str, str]:
    """A recipe's line."""
    path = registry.recipe_path(name)
    values = recipes.read(path).values
    backbone = values["model"]["init_args"]["backbone"]
    return {
        "recipe": f"`{name}`",
        "what it does": path.read_text("utf-8").splitlines()[0].removeprefix("# "),
        "backbone": f"`{backbone}`" if isinstance(backbone, str) else f"{named(backbone)}, new",
        "heads": ", ".join(dict.fromkeys(heads(values["model"]))),
        "data": "; ".join(dict.fromkeys(sources(values["data"]))),
    }


def page() -> str:
    """The page with the table that the recipes make now, those for a first hour first."""
    names = [name for place in PLACES for name in sorted(registry.recipes()) if name.startswith(f"{place}/")]
    return written(PAGE, table([row(name) for name in names]))


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
