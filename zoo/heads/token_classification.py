"""The head that tells a label of every word: names of persons and places, parts of speech.

Devlin et al., 2018, section 5.3: https://arxiv.org/abs/1810.04805
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.heads import label_names
from zoo.heads.base import Batch, Head, Look, Loss
from zoo.heads.language_model import labelled
from zoo.heads.spans import SpanMetrics, spans
from zoo.layers import IGNORED
from zoo.specs import BackboneSpec, HeadSpec, Shape
from zoo.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class TokenClassification(HeadSpec):
    """Tells a label of every word; its first token carries it."""

    labels: list[str] | None = None
    """Their names, of spans `B-PER`, `I-PER` and `O`; None: those that the data has."""

    shapes: ClassVar[tuple[Shape, ...]] = ("encoder", "decoder")
    task: ClassVar[str] = "token-classification"

    def __post_init__(self) -> None:
        if self.labels is not None:
            label_names.require_distinct(self.labels)

    def build(self, backbone: BackboneSpec) -> "TokenClassificationHead":
        """The head for a backbone of these sizes.

        Raises:
            SpecError: The labels are not known.
        """
        return TokenClassificationHead(backbone, label_names.known_labels(self, self.labels))

    def with_labels(self, labels: Sequence[str]) -> Self:
        """The same head with the data's labels, where it names none."""
        return replace(self, labels=list(labels)) if self.labels is None else self

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """The labels of config.json's `id2label`."""
        return cls(labels=label_names.of_config(config))

    def to_hub(self) -> dict[str, Any]:
        """config.json's `id2label` and `label2id`."""
        return label_names.to_hub(self.labels or [])


class TokenClassificationHead(Head):
    """A projection of every token's hidden state onto the labels."""

    def __init__(self, spec: BackboneSpec, labels: list[str]) -> None:
        super().__init__()
        hub_head = spec.hub_head("TokenClassification")
        self.labels = labels
        self.transform = hub_head.transform(spec) if hub_head.transform else nn.Identity()
        self.projection = nn.Linear(spec.hidden_size, len(labels), bias=hub_head.bias)

    def forward(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """Logits (batch, tokens, labels)."""
        logits: Tensor = self.projection(self.transform(hidden_BTD))
        return logits

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Cross entropy of each word's label; `labels` (batch, tokens) by number, -100 is none."""
        labels_BT = batch["labels"]
        hidden_ND, labels_N = labelled(hidden_BTD, labels_BT)
        logits_NV = self(hidden_ND, batch).float()
        total = F.cross_entropy(logits_NV, labels_N, reduction="sum")
        predicted_BT = torch.full_like(labels_BT, IGNORED)
        predicted_BT[labels_BT != IGNORED] = logits_NV.detach().argmax(-1)
        return Loss(total, labels_N.numel(), labels_BT, predicted_BT)

    def metrics(self) -> SpanMetrics:
        """Loss in nats per word, accuracy of words, precision, recall and F1 of spans."""
        return SpanMetrics(self.labels)

    def look(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> Look:
        """Each text with the spans that are right, and with those that are told; each word is an answer."""
        labels_BT = batch["labels"]
        is_word_BT = labels_BT != IGNORED
        logits_BTV = self(hidden_BTD, batch).float()
        confidence_BT, predicted_BT = logits_BTV.softmax(-1).max(-1)
        losses_BT = F.cross_entropy(logits_BTV.mT, labels_BT, ignore_index=IGNORED, reduction="none")
        rows = is_word_BT.any(-1).nonzero().flatten()
        said, right = (
            [
                self._marked(batch["input_ids"][row], part[row], is_word_BT[row], tokenizer)
                for row in rows.tolist()
            ]
            for part in (predicted_BT, labels_BT)
        )
        losses = losses_BT[rows].sum(-1) / is_word_BT[rows].sum(-1)
        labels, predicted, confidence = (
            part[is_word_BT] for part in (labels_BT, predicted_BT, confidence_BT)
        )
        return Look(rows, losses, said, right, labels, predicted, confidence, self.labels)

    def _marked(self, ids_T: Tensor, numbers_T: Tensor, is_word_T: Tensor, tokenizer: Tokenizer) -> str:
        """A row's words, its spans in brackets: `[Ada Lovelace: PER] wrote`."""
        starts = is_word_T.nonzero().flatten().tolist()
        pieces = ids_T.tensor_split(starts[1:])
        words = [tokenizer.decode(piece.tolist()).strip() for piece in pieces]
        for kind, first, last in spans([self.labels[number] for number in numbers_T[starts].tolist()]):
            words[first] = f"[{words[first]}"
            words[last] = f"{words[last]}: {kind}]"
        return " ".join(words)

    def encode(self, texts: Sequence[Any], tokenizer: Tokenizer, max_length: int) -> Batch:
        """Texts as ids, and where in its text each token stands."""
        encodings = tokenizer.encodings(texts, max_length)
        offsets = [encoding.offsets for encoding in encodings]
        return {**tokenizer.padded(encodings), "offsets": tokenizer.filled(offsets, 0), "texts": list(texts)}

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """The spans of each text, with places in its characters; words are what spaces part."""
        scores_BT, numbers_BT = self(hidden_BTD, batch).float().softmax(-1).max(-1)
        rows = zip(
            batch["texts"], batch["offsets"].tolist(), numbers_BT.tolist(), scores_BT.tolist(), strict=True
        )
        return [self._found(*row) for row in rows]

    def _found(
        self, text: str, offsets: list[tuple[int, int]], numbers: list[int], scores: list[float]
    ) -> list[dict[str, Any]]:
        words = word_spans(text.split(" "))
        firsts = first_pieces(offsets, words)
        told = sorted(firsts)
        found = []
        for kind, first, last in spans([self.labels[numbers[firsts[word]]] for word in told]):
            start, end = words[told[first]][0], words[told[last]][1]
            score = min(scores[firsts[word]] for word in told[first : last + 1])
            found.append({"label": kind, "text": text[start:end], "start": start, "end": end, "score": score})
        return found


def word_spans(words: Sequence[str]) -> list[tuple[int, int]]:
    """Where each word stands in their text, joined by spaces, in characters."""
    found, start = [], 0
    for word in words:
        found.append((start, start + len(word)))
        start += len(word) + 1
    return found


def first_pieces(offsets: Sequence[tuple[int, int]], words: Sequence[tuple[int, int]]) -> dict[int, int]:
    """The first token of each word that has any, by the word's number.

    Args:
        offsets: Where each token stands in the text; special ones are empty.
        words: Where each word does. Some tokenizers count the space before a word as its token's.
    """
    owner = {place: number for number, (start, end) in enumerate(words) for place in range(start, end)}
    firsts: dict[int, int] = {}
    for token, (start, end) in enumerate(offsets):
        if end > start and (number := owner.get(end - 1)) is not None:
            firsts.setdefault(number, token)
    return firsts
