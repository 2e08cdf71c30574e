"""The model card: what a model is, where it comes from, how to load and to make it again."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData

from zoo.errors import RecipeError, with_article
from zoo.hub import curves, published, results
from zoo.hub.config import config_of
from zoo.hub.ledger import proven
from zoo.hub.runs import Run

if TYPE_CHECKING:
    from zoo.modules.base import ZooModule

FILE = "README.md"
MARK = "<!-- Written by Lightning Zoo. Remove this line, and the next push leaves your text alone. -->"
SITE = "https://huggingface.co"


def write(folder: Path, model: "ZooModule", repo_id: str, run: Run, head: str | None = None) -> None:
    """Writes README.md beside a saved model, and what it speaks of: recipe, picture, results."""
    if run.recipe is not None:
        (folder / published.FILE).write_text(run.recipe, "utf-8")
    results.write(folder, run, repo_id)
    has_picture = curves.draw(run.curves, folder)
    card(model, repo_id, run, head, has_picture=has_picture).save(folder / FILE)


def card(
    model: "ZooModule", repo_id: str, run: Run, head: str | None = None, *, has_picture: bool = False
) -> ModelCard:
    """The card of a model."""
    name = model.head_name(head) if model.head_specs else None
    parts = [
        MARK,
        f"# {repo_id.rpartition('/')[2]}",
        _origin(model, name),
        _loading(model, repo_id, name),
        _results(run),
        _parity(model, name),
        _making(repo_id, run, has_picture),
        _circumstances(model, run),
        "## Limits\n\nTo be filled in by whoever trained it: for what it was made, for what it was not, "
        "what it gets wrong.",
    ]
    metadata = _metadata(model, repo_id, run, name).to_yaml()
    return ModelCard(f"---\n{metadata}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n")


def _metadata(model: "ZooModule", repo_id: str, run: Run, head: str | None) -> ModelCardData:
    task = "feature-extraction"
    if head:
        kind = type(model.head_specs[head])
        task = kind.pipeline_tag or kind.task
    found = results.model_index(run, task)
    base, _, commit = (model.origin or "").partition("@")
    more: dict[str, Any] = {"base_model_revision": commit} if commit else {}
    return ModelCardData(
        license=run.license,
        language=run.language,
        base_model=base or None,
        datasets=list(run.datasets) or None,
        pipeline_tag=task or None,
        library_name="lightning-zoo",
        tags=["lightning-zoo", _model_type(model)],
        model_name=repo_id.rpartition("/")[2] if found else None,
        eval_results=found or None,
        **more,
    )


def _model_type(model: "ZooModule") -> str:
    return str(config_of(model.spec, None, "")["model_type"])


def _origin(model: "ZooModule", head: str | None) -> str:
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    under = f" under a head for {type(model.head_specs[head]).task or head}" if head else ""
    kind = (
        f"{with_article(model.shape).capitalize()} of the family `{_model_type(model)}`{under}, "
        f"{num_parameters:,} parameters"
    )
    if not model.origin:
        return f"{kind}, trained from fresh weights."
    repo_id, _, commit = model.origin.partition("@")
    return f"{kind}, trained on from [{repo_id}]({SITE}/{repo_id}) at commit `{commit}`."


def _loading(model: "ZooModule", repo_id: str, head: str | None) -> str:
    architecture = model.hub_head(head).architecture if head else model.spec.architecture
    use = "model(input_ids=ids).last_hidden_state"
    if head:
        generates = model.head(head).generates
        use = 'print(model.generate("…"))' if generates else 'print(model.predict(["…"]))'
    return (
        f'## To load it\n\n```python\nimport zoo\n\nmodel = zoo.load("{repo_id}")\n{use}\n```\n\n'
        "or, where transformers knows the family,\n\n```python\nimport transformers\n\n"
        f'model = transformers.{architecture}.from_pretrained("{repo_id}")\n'
        f'tokenizer = transformers.AutoTokenizer.from_pretrained("{repo_id}")\n```'
    )


def _results(run: Run) -> str:
    rows = [
        f"| {measure.split} | {measure.name} | {measure.value:.4f} | "
        f"{'not counted' if measure.num_rows is None else f'{measure.num_rows:,}'} |"
        for measure in run.measured()
    ]
    if not rows:
        return "## Measures\n\nNone were taken."
    earlier = run.measured_at is not None and run.steps is not None and run.measured_at < run.steps
    note = f"\n\nTaken at step {run.measured_at:,} of {run.steps:,}." if earlier else ""
    return "## Measures\n\n| split | measure | value | rows |\n|---|---|---:|---:|\n" + "\n".join(rows) + note


def _parity(model: "ZooModule", head: str | None) -> str:
    found = head and proven(type(model.spec), _model_type(model), type(model.head_specs[head]).__name__)
    if not found:
        return "## Parity\n\nNot checked: its plugin tells of no reference for this family under this head."
    return (
        f"## Parity\n\nThe family under this head, tiny and with random weights, beside {found['reference']} "
        f"in {found['variants']} variants, float32 on a CPU: logits differ by {found['logits']}, the loss by "
        f"{found['loss']}, gradients by {found['gradients']}, relative to the largest."
    )


def _making(repo_id: str, run: Run, has_picture: bool) -> str:
    parts = [f"![Losses by step]({curves.FILE})" if has_picture else curves.table(run.curves)]
    if run.recipe is not None:
        parts += [_command(repo_id, run.recipe), f"```yaml\n{run.recipe.rstrip()}\n```"]
    parts = [part for part in parts if part] or ["Its recipe was not recorded."]
    return "\n\n".join(["## How it was made", *parts])


def _command(repo_id: str, recipe: str) -> str:
    try:
        published.require_permitted(recipe, repo_id)
    except RecipeError as error:
        return (
            f"```sh\nzoo fit --config {published.FILE}\n```\n\nwith the file of this repository; it does not "
            f"run as `{published.PREFIX}{repo_id}`, because {error.message}."
        )
    return (
        f"```sh\nzoo fit --config {published.PREFIX}{repo_id}\n```\n\n"
        f"runs it again, as {published.FILE} of this repository says; `@` and a commit after it pins it."
    )


def _circumstances(model: "ZooModule", run: Run) -> str:
    from zoo.training.recording import versions  # which imports Lightning, that a pull does without

    data = [_source(source, commit) for source, commit in run.data.items()]
    told = {
        "data": ", ".join(data) or None,
        "steps": run.steps,
        "hardware": run.hardware,
        "precision": run.precision,
        **(run.versions or versions(model)),
    }
    return "## Circumstances\n\n" + "\n".join(f"- {name}: {value}" for name, value in told.items() if value)


def _source(source: str, commit: str | None) -> str:
    repo_id = published.data_set_of(source)
    if repo_id is None:
        return f"`{source}`, which is not part of this repository"
    at = f" at commit `{commit}`" if commit else ""
    return f"[{source}]({SITE}/datasets/{repo_id}){at}"
