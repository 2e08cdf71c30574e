"""How a model came about, as far as it is known: what its card tells."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from zoo.hub import published


@dataclass(frozen=True)
class Measure:
    """One figure of an evaluation."""

    split: str
    """As the Hub calls it: `validation` or `test`."""
    name: str
    """`loss`; under one head of several, `topic/loss`."""
    value: float
    num_rows: int | None = None
    """Rows with a label on which it was measured."""


@dataclass(frozen=True)
class Run:
    """How a model came about."""

    recipe: str | None = None
    """As it is published."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Of the last evaluation, by their names in the log: `val/loss`."""
    measured_at: int | None = None
    """The step of that evaluation."""
    num_rows: Mapping[str, int] = field(default_factory=dict)
    """Rows of an evaluation by what precedes a measure's name: `val/`."""
    curves: Mapping[str, list[tuple[int, float]]] = field(default_factory=dict)
    """Figures by step, by their names in the log: `train/loss`."""
    data: Mapping[str, str | None] = field(default_factory=dict)
    """Sources as the recipe names them, each with its commit where it is on the Hub."""
    hardware: str | None = None
    precision: str | None = None
    steps: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of what it was trained with."""
    license: str | None = None
    language: str | None = None

    @classmethod
    def of_checkpoint(cls, path: Path, checkpoint: Mapping[str, Any], more: Self) -> Self:
        """What a checkpoint and the folder of its run say."""
        recorded = checkpoint.get("callbacks", {}).get("Recording", {})
        run = more.told(recorded, checkpoint.get("global_step"))
        return run.with_recipe(path.parent.parent / "config.yaml")

    def told(self, recorded: Mapping[str, Any], step: int | None) -> Self:
        """The same with what a run recorded, and what was measured last at a step."""
        curves = recorded.get("curves", {})
        last = {
            name: [value for at, value in curve if step is None or at <= step][-1:]
            for name, curve in curves.items()
        }
        facts = recorded.get("facts", {})
        return replace(
            self,
            curves=curves,
            measures={name: found[0] for name, found in last.items() if found and name.startswith("val/")},
            measured_at=_last_step(curves, step),
            num_rows=recorded.get("num_rows", {}),
            data=facts.get("data", {}),
            hardware=facts.get("hardware"),
            precision=facts.get("precision"),
            versions=facts.get("versions", {}),
            steps=step,
        )

    def with_recipe(self, path: Path) -> Self:
        """The same with the recipe that a run resolved, where there is one."""
        return replace(self, recipe=published.recipe_of(path.read_text("utf-8"))) if path.is_file() else self

    @property
    def datasets(self) -> dict[str, str | None]:
        """Data sets on the Hub, each with its commit where it is known."""
        named = {published.data_set_of(source): commit for source, commit in self.data.items()}
        return {name: commit for name, commit in named.items() if name is not None}

    def measured(self) -> Iterator[Measure]:
        """What was measured, each with the rows on which it was."""
        for name, value in sorted(self.measures.items()):
            split, _, measure = name.partition("/")
            if split in ("val", "test"):
                told = {"val": "validation"}.get(split, split)
                yield Measure(told, measure, value, self.num_rows.get(name.rpartition("/")[0] + "/"))


def _last_step(curves: Mapping[str, list[tuple[int, float]]], step: int | None) -> int | None:
    """Of an evaluation, up to a step."""
    measured = (at for name, curve in curves.items() if name.startswith("val/") for at, _ in curve)
    return max((at for at in measured if step is None or at <= step), default=None)
