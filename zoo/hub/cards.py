"""The model card: what a model is, where it comes from, how to load and to make it again."""

import platform
import re
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from zoo import registry
from zoo.specs import BackboneSpec

if TYPE_CHECKING:
    from zoo.modules.base import ZooModule

FILE, RECIPE_FILE = "README.md", "recipe.yaml"
MARK = "<!-- Written by Lightning Zoo. Remove this line, and the next push leaves your text alone. -->"


@dataclass(frozen=True)
class Run:
    """How a model came about, as far as it is known."""

    recipe: str | None = None
    """The recipe in full."""
    command: str | None = None
    """What reproduces it."""
    measures: dict[str, float] = field(default_factory=dict)
    """Of an evaluation, by their names in the log: `val/loss`."""
    datasets: list[str] = field(default_factory=list)
    """Ids on the Hub."""
    hardware: str | None = None
    precision: str | None = None
    steps: int | None = None
    license: str | None = None
    language: str | None = None

    @classmethod
    def of_checkpoint(cls, path: Path, more: Self) -> Self:
        """What the folder of a run says about its checkpoint."""
        recipe = path.parent.parent / "config.yaml"
        if not recipe.is_file():
            return more
        return replace(more, recipe=recipe.read_text("utf-8"), command=f"zoo fit --config {RECIPE_FILE}")


def write(folder: Path, model: "ZooModule", repo_id: str, run: Run, head: str | None = None) -> None:
    """Writes README.md and, where there is one, the recipe beside a saved model."""
    if run.recipe is not None:
        (folder / RECIPE_FILE).write_text(run.recipe, "utf-8")
    card(model, repo_id, run, head).save(folder / FILE)


def card(model: "ZooModule", repo_id: str, run: Run, head: str | None = None) -> ModelCard:
    """The card of a model."""
    task = type(model.head_specs[model.head_name(head)]).task if model.head_specs else "feature-extraction"
    name = repo_id.rpartition("/")[2]
    results = _results(run, task)
    data = ModelCardData(
        license=run.license,
        language=run.language,
        base_model=model.origin.partition("@")[0] if model.origin else None,
        datasets=run.datasets or None,
        pipeline_tag=task or None,
        library_name="lightning-zoo",
        tags=["lightning-zoo", registry.model_type_of(type(model.spec))],
        model_name=name if results else None,
        eval_results=results or None,
    )
    parts = [MARK, f"# {name}", _origin(model), _loading(model, repo_id, head), _making(run), _measures(run)]
    parts += [_versions(model, run), "## Limits\n\nTo be filled in by whoever trained it."]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n")


def _results(run: Run, task: str) -> list[EvalResult]:
    source = run.datasets[0] if run.datasets else "own"
    return [
        EvalResult(
            task_type=task,
            dataset_type=source,
            dataset_name=source,
            dataset_split={"val": "validation"}.get(split, split),
            metric_type=measure,
            metric_name=measure,
            metric_value=round(value, 6),
        )
        for split, measure, value in _split_measures(run)
    ]


def _split_measures(run: Run) -> list[tuple[str, str, float]]:
    parted = [(*name.rpartition("/")[::2], value) for name, value in sorted(run.measures.items())]
    return [(split, measure, value) for split, measure, value in parted if split in ("val", "test")]


def _origin(model: "ZooModule") -> str:
    spec = model.spec
    kind = (
        f"A {registry.model_type_of(type(spec))} of {sum(p.numel() for p in model.parameters()):,} parameters"
    )
    if not model.origin:
        return f"{kind}, trained from fresh weights."
    repo_id, _, commit = model.origin.partition("@")
    return f"{kind}, trained on from [{repo_id}](https://huggingface.co/{repo_id}) at commit `{commit}`."


def _loading(model: "ZooModule", repo_id: str, head: str | None) -> str:
    name = model.head_name(head) if model.head_specs else None
    architecture = model.hub_head(name).architecture if name else model.spec.architecture
    return (
        "## To load it\n\n```python\nimport zoo\n\n"
        f'model = zoo.load("{repo_id}")\n```\n\n'
        "or, where transformers knows the family,\n\n```python\nimport transformers\n\n"
        f'model = transformers.{architecture}.from_pretrained("{repo_id}")\n'
        f'tokenizer = transformers.AutoTokenizer.from_pretrained("{repo_id}")\n```'
    )


def _making(run: Run) -> str:
    if run.recipe is None:
        return ""
    command = f"```sh\n{run.command}\n```\n\n" if run.command else ""
    return f"## To make it again\n\n{command}```yaml\n{run.recipe.rstrip()}\n```"


def _measures(run: Run) -> str:
    rows = [f"| {split} | {measure} | {value:.4f} |" for split, measure, value in _split_measures(run)]
    return "## Measures\n\n| split | measure | value |\n|---|---|---|\n" + "\n".join(rows) if rows else ""


def _versions(model: "ZooModule", run: Run) -> str:
    told = {
        "steps": run.steps,
        "hardware": run.hardware,
        "precision": run.precision,
        "lightning-zoo": metadata.version("lightning-zoo"),
        **_plugin(model.spec),
        "torch": torch.__version__,
        "Python": platform.python_version(),
    }
    return "## Versions\n\n" + "\n".join(f"- {name}: {value}" for name, value in told.items() if value)


def _plugin(spec: BackboneSpec) -> dict[str, str]:
    """The distribution that brings the family, with its version."""
    found = [entry for entry in registry.entries() if entry.is_value(type(spec))]
    return {found[0].distribution: found[0].version} if found else {}


def hub_ids(*sources: object) -> list[str]:
    """Those of a run's sources that are data sets on the Hub."""
    named = [source for source in sources if isinstance(source, str)]
    return [
        source for source in named if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not Path(source).exists()
    ]
