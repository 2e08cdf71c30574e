"""The language model's head that learns from pairs of answers of which one is better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from zoo.errors import SpecError
from zoo.heads import answer_pairs
from zoo.heads.answer_pairs import PairMetrics
from zoo.heads.base import Batch, Loss
from zoo.heads.causal_lm import CausalLM, CausalLMHead
from zoo.heads.preference_losses import LOSSES
from zoo.layers import IGNORED
from zoo.specs import BackboneSpec, HubHead, require_known

Objective = Literal["dpo", "ipo", "hinge", "orpo", "kto"]


@dataclass(frozen=True, kw_only=True)
class Preference(CausalLM):
    """Predicts each token from those before it, so that better answers become likelier than worse ones."""

    objective: Objective = "dpo"
    """What is lost on a pair: `zoo.heads.preference_losses`."""
    beta: float = 0.1
    """How much it counts that the model stays near its reference; in `orpo`, the odds' weight."""
    label_smoothing: float = 0.0
    """Share of pairs that are held to be the wrong way round, in `dpo`."""

    task: ClassVar[str] = "preference"
    pipeline_tag: ClassVar[str | None] = CausalLM.task
    reads: ClassVar[frozenset[str]] = frozenset({"reference"})
    expected_failures: ClassVar[Mapping[str, str]] = answer_pairs.EXPECTED_FAILURES

    def __post_init__(self) -> None:
        require_known(self, "objective", get_args(Objective))
        if self.beta <= 0:
            raise SpecError(f"`beta` must be above 0, got {self.beta}", at="beta")
        if not 0 <= self.label_smoothing < 0.5:
            raise SpecError(
                f"`label_smoothing` must lie in [0, 0.5), got {self.label_smoothing}", at="label_smoothing"
            )
        if self.label_smoothing and self.objective != "dpo":
            raise SpecError(
                f"`label_smoothing` belongs to the objective dpo, got {self.objective}",
                at="label_smoothing",
                hint="leave it out, or set objective: dpo",
            )

    @property
    def answers(self) -> int:
        """Rows of a pair: two answers, and for `kto` another pair's."""
        return 3 if self.objective == "kto" else 2

    @property
    def has_reference(self) -> bool:
        """Whether it is compared with another model's log-probabilities."""
        return self.objective != "orpo"

    @classmethod
    def example(cls, backbone: BackboneSpec) -> Batch:
        """Three pairs, for `zoo.testing`."""
        return answer_pairs.example(backbone)

    def hub_head(self, backbone: BackboneSpec) -> HubHead:
        """On the Hub it is a language model's."""
        return backbone.hub_head("CausalLM")

    def build(self, backbone: BackboneSpec) -> "PreferenceHead":
        """The head for a backbone of these sizes."""
        return PreferenceHead(backbone, self)


class PreferenceHead(CausalLMHead):
    """The language model's projection, whose loss compares answers."""

    def __init__(self, backbone: BackboneSpec, spec: Preference) -> None:
        super().__init__(backbone, "CausalLM")
        self.spec = spec

    def answer_log_probs(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """How likely each answer is, as the sum of its tokens' log-probabilities, (answers, pairs)."""
        told_BT = self.log_probs(hidden_BTD, batch["labels"])
        return told_BT.sum(-1).view(self.spec.answers, -1)

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """What the objective loses on pairs.

        Args:
            hidden_BTD: Hidden states of the better answers, then of the worse ones, then of others.
            batch: `labels` (answers · pairs, tokens) say where the answers are; `reference` (answers, pairs)
                is what `answer_log_probs` gives of a reference. Without it, all answers are held to be
                equally likely there.
        """
        labels_BT, answers = batch["labels"], self.spec.answers
        is_counted_P = answer_pairs.counted(labels_BT, answers)
        lengths_AP = (labels_BT[:, 1:] != IGNORED).sum(-1).view(answers, -1)
        policy_AP = self.answer_log_probs(hidden_BTD, batch)
        reference_AP = batch.get("reference", torch.zeros_like(policy_AP))
        losses_N, margins_N = LOSSES[self.spec.objective](
            policy_AP[:, is_counted_P],
            reference_AP[:, is_counted_P],
            lengths_AP[:, is_counted_P],
            self.spec.beta,
            self.spec.label_smoothing,
        )
        return Loss(losses_N.sum(), is_counted_P.sum(), predicted=margins_N.detach())

    def metrics(self) -> PairMetrics:  # type: ignore[override]
        """Loss per pair, accuracy and margin."""
        return PairMetrics()
