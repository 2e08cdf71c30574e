"""What each packaged recipe trains on what: the table of docs/recipes.md, made of the recipes themselves.

What they cost and reach stands in learnt.jsonl, to which `benchmarks/learn.py --keep` adds.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pages import table, written

from zoo import registry
from zoo.cli import recipes

PAGE = Path(__file__).with_suffix(".md")
LEARNT = PAGE.with_name("learnt.jsonl")
PUBLISHED = "# Published: "
"""Begins the comment of a recipe that says what others reached."""
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


def turns(name: str) -> list[dict[str, Any]]:
    """What was measured of a recipe, a seed each."""
    lines = map(json.loads, LEARNT.read_text("utf-8").splitlines())
    return [line for line in lines if line["recipe"] == name]


def spread(figures: Sequence[float]) -> str:
    """Their mean, and how far apart they are."""
    mean = f"{fmean(figures):.4g}"
    if len(figures) == 1:
        return mean
    return f"{mean} ({min(figures):.4g} to {max(figures):.4g}, {len(figures)} seeds)"


def result(measured: Sequence[dict[str, Any]]) -> str:
    """What a recipe reached, beside transformers."""
    if not measured:
        return ""
    reached = f"{measured[0]['measure']} {spread([turn['zoo'] for turn in measured])}"
    peer = [turn["transformers"] for turn in measured if turn["transformers"] is not None]
    return f"{reached}; transformers {spread(peer)}" if peer else reached


def cost(measured: Sequence[dict[str, Any]]) -> str:
    """What one seed took."""
    if not measured:
        return ""
    return f"{measured[0]['steps']} steps, {fmean(turn['cpu_seconds'] for turn in measured) / 60:.0f} min"


def row(name: str) -> dict[str, str]:
    """A recipe's line."""
    path = registry.recipe_path(name)
    values = recipes.read(path).values
    backbone = values["model"]["init_args"]["backbone"]
    first, *lines = path.read_text("utf-8").splitlines()
    measured = turns(name)
    return {
        "recipe": f"`{name}`",
        "what it does": first.removeprefix("# "),
        "backbone": f"`{backbone}`" if isinstance(backbone, str) else f"{named(backbone)}, new",
        "heads": ", ".join(dict.fromkeys(heads(values["model"]))),
        "data": "; ".join(dict.fromkeys(sources(values["data"]))),
        "cost": cost(measured),
        "result": result(measured),
        "published": " ".join(line.removeprefix(PUBLISHED) for line in lines if line.startswith(PUBLISHED)),
    }


def page() -> str:
    """The page with the table that the recipes make now, those for a first hour first."""
    names = [name for place in PLACES for name in sorted(registry.recipes()) if name.startswith(f"{place}/")]
    return written(PAGE, table([row(name) for name in names]))


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
