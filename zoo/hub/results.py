"""What was measured, in the Hub's two formats: the card's `model-index`, and files of `.eval_results`."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from zoo.hub.runs import Measure, Run

FOLDER = ".eval_results"
FILES = rf"{re.escape(FOLDER)}/zoo-[\w.-]+\.yaml"
"""Those that a push writes, and that go with the model of which they speak."""


def model_index(run: Run, task: str) -> list[EvalResult]:
    """For the card's metadata."""
    source, commit = next(iter(run.datasets.items()), ("own", None))
    return [
        EvalResult(
            task_type=task,
            dataset_type=source,
            dataset_name=source,
            dataset_split=measure.split,
            dataset_revision=commit,
            metric_type=measure.name.rpartition("/")[2],
            metric_name=measure.name,
            metric_value=round(measure.value, 6),
        )
        for measure in run.measured()
    ]


def write(folder: Path, run: Run, repo_id: str) -> None:
    """Writes a file for each measure on a data set of the Hub; a loss is none by which models are ranked."""
    if len(run.datasets) != 1:
        return
    ((source, commit),) = run.datasets.items()
    for name, entry in _entries(run, source, commit, repo_id):
        path = folder / FOLDER / f"zoo-{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False), "utf-8")


def _entries(
    run: Run, source: str, commit: str | None, repo_id: str
) -> Iterator[tuple[str, EvalResultEntry]]:
    for measure in run.measured():
        if measure.name.rpartition("/")[2] == "loss":
            continue
        name = "-".join([source.rpartition("/")[2], measure.split, measure.name.replace("/", "-")])
        yield (
            re.sub(r"[^\w.-]", "-", name),
            EvalResultEntry(
                dataset_id=source,
                task_id="default",
                value=round(measure.value, 6),
                dataset_revision=commit,
                source_url=f"https://huggingface.co/{repo_id}",
                source_name="Model card",
                notes=told(measure),
            ),
        )


def told(measure: Measure) -> str:
    """In words: `accuracy on validation, 872 rows`."""
    rows = "" if measure.num_rows is None else f", {measure.num_rows:,} rows"
    return f"{measure.name} on {measure.split}{rows}"
