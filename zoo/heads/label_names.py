"""Names of labels: in a spec, and in config.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from zoo import registry
from zoo.errors import SpecError
from zoo.specs import Spec


def require_distinct(labels: Sequence[str]) -> None:
    """Refuses labels that tell nothing apart.

    Raises:
        SpecError: They are fewer than two, or one stands there twice.
    """
    if len(labels) < 2:
        raise SpecError(f"`labels` must name at least two, got {labels}", at="labels")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise SpecError(f"`labels` must differ, got `{twice[0]}` twice", at="labels")


def known_labels(spec: Spec, labels: list[str] | None) -> list[str]:
    """A spec's labels.

    Raises:
        SpecError: They are not known.
    """
    if labels is None:
        raise SpecError(
            f"{registry.path_of(type(spec))} knows no labels",
            at="labels",
            hint="give them, or train on data that names them",
        )
    return labels


def of_config(config: Mapping[str, Any]) -> list[str]:
    """The labels of config.json's `id2label`; the Hub's names for two, where it says nothing."""
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    return [names[number] for number in sorted(names, key=int)]


def to_hub(labels: Sequence[str]) -> dict[str, Any]:
    """config.json's `id2label` and `label2id`."""
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
