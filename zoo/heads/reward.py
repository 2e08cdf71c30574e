"""The head that tells how good an answer is, learnt from pairs of which one is better.

Bradley and Terry, 1952: https://doi.org/10.2307/2334029; Ouyang et al., 2022: https://arxiv.org/abs/2203.02155
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from zoo.heads import answer_pairs, label_names
from zoo.heads.answer_pairs import PairMetrics
from zoo.heads.base import Batch, Loss
from zoo.heads.pooled import PooledHead
from zoo.specs import BackboneSpec, HeadSpec, HubHead, Shape
from zoo.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Reward(HeadSpec):
    """Tells one number of a chat, the higher the better its last answer."""

    shapes: ClassVar[tuple[Shape, ...]] = ("decoder",)
    task: ClassVar[str] = "reward"
    pipeline_tag: ClassVar[str | None] = "text-classification"
    expected_failures: ClassVar[Mapping[str, str]] = answer_pairs.EXPECTED_FAILURES

    @classmethod
    def example(cls, backbone: BackboneSpec) -> Batch:
        """Three pairs, for `zoo.testing`."""
        return answer_pairs.example(backbone)

    def hub_head(self, backbone: BackboneSpec) -> HubHead:
        """On the Hub it is a classifier with one label."""
        return backbone.hub_head("SequenceClassification")

    def to_hub(self) -> dict[str, Any]:
        """config.json's one label."""
        return label_names.to_hub(["LABEL_0"])

    def build(self, backbone: BackboneSpec) -> "RewardHead":
        """The head for a backbone of these sizes."""
        return RewardHead(backbone, "SequenceClassification", 1)


class RewardHead(PooledHead):
    """A projection of the last token's hidden state onto one number."""

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """What is lost on pairs where the better answer has not much the higher number.

        Args:
            hidden_BTD: Hidden states of the better answers, then of the worse ones.
            batch: `labels` (2 · pairs, tokens) say where the answers are.
        """
        better_P, worse_P = self(hidden_BTD, batch)[:, 0].float().view(2, -1)
        is_counted_P = answer_pairs.counted(batch["labels"], answers=2)
        margins_N = (better_P - worse_P)[is_counted_P]
        return Loss(-F.logsigmoid(margins_N).sum(), is_counted_P.sum(), predicted=margins_N.detach())

    def metrics(self) -> PairMetrics:
        """Loss in nats per pair, accuracy and margin."""
        return PairMetrics()

    def encode(self, texts: Sequence[Any], tokenizer: Tokenizer, max_length: int) -> Batch:
        """Chats that end in an answer, or texts."""
        if any(isinstance(text, str) for text in texts):
            return super().encode(texts, tokenizer, max_length)
        return dict(tokenizer.batch_chats(texts))

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """The number of each chat."""
        return [{"score": score} for score in self(hidden_BTD, batch)[:, 0].float().tolist()]
