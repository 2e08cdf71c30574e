"""The head that chooses one of several answers to a question.

Radford et al., 2018, section 3.3: https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchmetrics.classification import BinaryAccuracy

from zoo.errors import GenerationError
from zoo.heads.base import Batch, Look, Loss, padded_rows
from zoo.heads.comparing import ComparingMetrics
from zoo.heads.pooled import PooledHead
from zoo.layers import IGNORED
from zoo.specs import BackboneSpec, HeadSpec, Shape
from zoo.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(HeadSpec):
    """Chooses one of several answers to a question, each of which is read beside it."""

    shapes: ClassVar[tuple[Shape, ...]] = ("encoder", "decoder")
    task: ClassVar[str] = "multiple-choice"
    reads: ClassVar[frozenset[str]] = frozenset({"num_choices"})

    expected_failures: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("a_batch_loses_what_its_rows_lose", "measures_count_and_start_anew"),
        "a row is an answer, and a loss is that of a question with all its answers",
    )

    @classmethod
    def example(cls, backbone: BackboneSpec) -> Batch:
        """Three questions of two answers, for `zoo.testing`."""
        batch = padded_rows(backbone.vocab_size, number=6)
        return {**batch, "num_choices": torch.tensor([2, 2, 2]), "labels": torch.tensor([0, 1, 1])}

    def build(self, backbone: BackboneSpec) -> "MultipleChoiceHead":
        """The head for a backbone of these sizes."""
        return MultipleChoiceHead(backbone, "MultipleChoice", 1)


class MultipleChoiceHead(PooledHead):
    """A projection of one token's hidden state onto a score, compared among the answers to a question."""

    def forward(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """Logits (questions, answers), minus infinity where a question has fewer than another.

        Args:
            hidden_BTD: Hidden states of every answer, those to a question one after the other.
            batch: `num_choices` (questions) says how many each has.
        """
        scores_B = super().forward(hidden_BTD, batch)[:, 0]
        rows = list(torch.split(scores_B, batch["num_choices"].tolist()))
        return pad_sequence(rows, batch_first=True, padding_value=float("-inf"))

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Cross entropy of the right answer; `labels` (questions) by number, -100 is none."""
        labels_Q, logits_QC = batch["labels"], self(hidden_BTD, batch).float()
        total = F.cross_entropy(logits_QC, labels_Q, ignore_index=IGNORED, reduction="sum")
        is_labelled = labels_Q != IGNORED
        is_right = (logits_QC.detach().argmax(-1) == labels_Q)[is_labelled].long()
        return Loss(total, is_labelled.sum(), torch.ones_like(is_right), is_right)

    def metrics(self) -> ComparingMetrics:
        """Loss in nats per question, and accuracy."""
        return ComparingMetrics(accuracy=BinaryAccuracy())

    def look(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> Look:
        """The answer to each question that is right, and the likeliest one."""
        is_labelled = batch["labels"] != IGNORED
        labels, logits = batch["labels"][is_labelled], self(hidden_BTD, batch).float()[is_labelled]
        confidence, predicted = logits.softmax(-1).max(-1)
        num_choices = batch["num_choices"]
        firsts = (num_choices.cumsum(0) - num_choices)[is_labelled]
        said, right = (
            [tokenizer.decode(ids) for ids in batch["input_ids"][firsts + part].tolist()]
            for part in (predicted, labels)
        )
        losses = F.cross_entropy(logits, labels, reduction="none")
        return Look(firsts, losses, said, right, labels, predicted, confidence)

    def encode(self, texts: Sequence[Any], tokenizer: Tokenizer, max_length: int) -> Batch:
        """Questions and their answers, each read as a pair.

        Raises:
            GenerationError: One is no question with answers.
        """
        return paired(texts, tokenizer, max_length)

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """The likeliest answer to each question, its number and its probability."""
        scores, numbers = self(hidden_BTD, batch).float().softmax(-1).max(-1)
        rows = zip(batch["texts"], numbers.tolist(), scores.tolist(), strict=True)
        return [
            {"answer": choices[number], "number": number, "score": score}
            for (_, choices), number, score in rows
        ]


def paired(texts: Sequence[Any], tokenizer: Tokenizer, max_length: int) -> Batch:
    """Questions with their answers as rows, one an answer.

    Raises:
        GenerationError: One is no question with answers.
    """
    for text in texts:
        if isinstance(text, str) or len(text) != 2 or isinstance(text[1], str) or not text[1]:
            raise GenerationError(
                "a question is asked with its answers", hint="give pairs: (question, [answer, …])"
            )
    rows = [(question, choice) for question, choices in texts for choice in choices]
    batch: Batch = dict(tokenizer.batch(rows, max_length=max_length))
    batch["num_choices"] = torch.tensor([len(choices) for _, choices in texts])
    return {**batch, "texts": list(texts)}
