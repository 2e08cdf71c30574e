"""The head that says of which kind a text is, or tells a number of it.

Devlin et al., 2018, section 4.1: https://arxiv.org/abs/1810.04805
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, get_args

from zoo.errors import SpecError
from zoo.heads import label_names
from zoo.heads.labelling import MultiLabelHead, SequenceClassificationHead
from zoo.heads.pooled import PooledHead
from zoo.heads.regression import RegressionHead
from zoo.specs import BackboneSpec, HeadSpec, Shape, require_known

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
"""config.json's `problem_type`: one of several labels, any of several labels, or a number."""


@dataclass(frozen=True, kw_only=True)
class SequenceClassification(HeadSpec):
    """Tells one of several labels for a whole text or pair of texts, any number of labels, or a number."""

    labels: list[str] | None = None
    """Their names; None: those that the data has. A regression has none."""
    problem_type: ProblemType = "single_label_classification"
    """Whether one label holds, any of them may (`multi_label_classification`), or a number is told
    (`regression`)."""

    shapes: ClassVar[tuple[Shape, ...]] = ("encoder", "decoder", "encoder-decoder")
    task: ClassVar[str] = "text-classification"

    def __post_init__(self) -> None:
        require_known(self, "problem_type", get_args(ProblemType))
        if self.labels is None:
            return
        if self.problem_type == "regression":
            raise SpecError(
                f"a regression has no `labels`, got {self.labels}",
                at="labels",
                hint="leave them out, or set problem_type: single_label_classification",
            )
        label_names.require_distinct(self.labels)

    def build(self, backbone: BackboneSpec) -> PooledHead:
        """The head for a backbone of these sizes.

        Raises:
            SpecError: The labels are not known.
        """
        if self.problem_type == "regression":
            return RegressionHead(backbone)
        several = self.problem_type == "multi_label_classification"
        return (MultiLabelHead if several else SequenceClassificationHead)(
            backbone, label_names.known_labels(self, self.labels)
        )

    def with_labels(self, labels: Sequence[str]) -> Self:
        """The same head with the data's labels, where it names none.

        Raises:
            SpecError: They are fewer than two.
        """
        if self.labels is not None or self.problem_type == "regression":
            return self
        return replace(self, labels=list(labels))

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """config.json's `problem_type` and the labels of its `id2label`; the Hub's names for two, where it
        says nothing.

        Raises:
            SpecError: The checkpoint tells several numbers, or one label.
        """
        names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
        kind: Any = config.get("problem_type") or (
            "regression" if len(names) == 1 else get_args(ProblemType)[0]
        )
        if (kind == "regression") != (len(names) == 1):
            raise SpecError(
                f"zoo.heads.SequenceClassification tells one number or several labels, "
                f"config.json says {kind} and {len(names)}"
            )
        labels = None if kind == "regression" else label_names.of_config(config)
        return cls(labels=labels, problem_type=kind)

    def to_hub(self) -> dict[str, Any]:
        """config.json's `id2label` and `label2id`, and `problem_type` where it is not one of several."""
        labels = self.labels or ["LABEL_0"] * (self.problem_type == "regression")
        is_plain = self.problem_type == "single_label_classification"
        return {**label_names.to_hub(labels), **({} if is_plain else {"problem_type": self.problem_type})}
