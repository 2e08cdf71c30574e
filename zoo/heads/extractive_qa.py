"""The head that answers a question by a piece of a text.

Devlin et al., 2018, sections 4.2 and 4.3: https://arxiv.org/abs/1810.04805
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import GenerationError
from zoo.heads.answers import AnswerMetrics
from zoo.heads.base import Batch, Head, Look, Loss, padded_rows
from zoo.heads.windows import windows
from zoo.layers import IGNORED
from zoo.specs import BackboneSpec, HeadSpec, Shape, require_positive
from zoo.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ExtractiveQA(HeadSpec):
    """Answers a question by a piece of a text, or says that it does not stand there."""

    stride: int = 128
    """Tokens that the windows of a long text share, in predictions; data has its own."""
    max_answer_tokens: int = 30
    """The longest answer."""
    num_best: int = 20
    """Answers that are weighed against each other."""
    no_answer_threshold: float | None = None
    """By how much the score of no answer must exceed that of the best one to be given; None: never."""

    shapes: ClassVar[tuple[Shape, ...]] = ("encoder", "decoder", "encoder-decoder")
    task: ClassVar[str] = "question-answering"

    def __post_init__(self) -> None:
        for name in ("stride", "max_answer_tokens", "num_best"):
            require_positive(self, name)

    @classmethod
    def example(cls, backbone: BackboneSpec) -> Batch:
        """Three windows, each of a question of its own, for `zoo.testing`."""
        batch = padded_rows(backbone.vocab_size)
        real_BT = batch["attention_mask"].bool()
        places_T = torch.arange(real_BT.shape[1])
        return {
            **batch,
            "labels": torch.tensor([[2, 3], [1, 1], [0, 2]]),
            "example": torch.arange(3),
            "offsets": torch.stack((places_T, places_T + 1), -1).expand(3, -1, -1),
            "text_mask": real_BT,
            "texts": ["abcdefghijkl"] * 3,
            "answers": [["cd"], ["b"], []],
        }

    def build(self, backbone: BackboneSpec) -> "ExtractiveQAHead":
        """The head for a backbone of these sizes."""
        return ExtractiveQAHead(backbone, self)


class Answer(NamedTuple):
    """A piece of a text, from and to a character, and its score; the empty one says that there is none."""

    start: int
    end: int
    score: float


class ExtractiveQAHead(Head):
    """A projection of every token's hidden state: how well an answer begins there, and ends there."""

    def __init__(self, spec: BackboneSpec, choices: ExtractiveQA) -> None:
        super().__init__()
        hub_head = spec.hub_head("ExtractiveQA")
        self.choices = choices
        self.transform = hub_head.transform(spec) if hub_head.transform else nn.Identity()
        self.projection = nn.Linear(spec.hidden_size, 2, bias=hub_head.bias)

    def forward(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """Logits (batch, tokens, 2) of an answer's first token and of its last."""
        logits: Tensor = self.projection(self.transform(hidden_BTD))
        return logits

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Cross entropy of both ends; `labels` (batch, 2) are tokens, the first where there is no answer.

        No answer stands in padding, which transformers does not rule out: there it changes the loss.
        """
        labels_B2 = batch["labels"]
        logits_BT2 = self(hidden_BTD, batch).float()
        real_BT = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
        possible_BT2 = logits_BT2.masked_fill(~real_BT[..., None], float("-inf"))
        total = F.cross_entropy(possible_BT2, labels_B2, ignore_index=IGNORED, reduction="sum")
        loss = Loss(total, (labels_B2 != IGNORED).sum())
        if self.training or "example" not in batch:
            return loss
        best = [found[0] for found in self.best(logits_BT2, batch)]
        places = [(answer.start, answer.end) for answer in best]
        return replace(loss, labels=labels_B2, predicted=torch.tensor(places))

    def metrics(self) -> AnswerMetrics:
        """Loss in nats per end, exact matches and F1 of words, by SQuAD's rules."""
        return AnswerMetrics()

    def look(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> Look | None:
        """The answer to each question that is right, and the one that is told; the worst window's loss."""
        if "example" not in batch or bool((batch["labels"] == IGNORED).all()):
            return None
        logits_BT2 = self(hidden_BTD, batch).float()
        losses_B = F.cross_entropy(logits_BT2, batch["labels"], reduction="none").sum(-1)
        windows_E = [(batch["example"] == number).nonzero().flatten() for number in batch["example"].unique()]
        worst_E = torch.stack([rows[losses_B[rows].argmax()] for rows in windows_E])
        best = [found[0] for found in self.best(logits_BT2, batch)]
        said = [text[answer.start : answer.end] for text, answer in zip(batch["texts"], best, strict=True)]
        right = [" / ".join(dict.fromkeys(answers)) for answers in batch["answers"]]
        return Look(worst_E, losses_B[worst_E], said, right)

    def encode(self, texts: Sequence[Any], tokenizer: Tokenizer, max_length: int) -> Batch:
        """Pairs of a question and a text as windows.

        Raises:
            GenerationError: One is no pair.
        """
        for text in texts:
            if isinstance(text, str) or len(text) != 2:
                raise GenerationError(
                    "a question is asked with its text", hint="give pairs: (question, text)"
                )
        return windows(list(map(tuple, texts)), tokenizer, max_length, self.choices.stride)

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """The best answer to each question, with its place and probability, and those that come next."""
        found = []
        every = self.best(self(hidden_BTD, batch).float(), batch)
        for text, answers in zip(batch["texts"], every, strict=True):
            scores = torch.tensor([answer.score for answer in answers]).softmax(0).tolist()
            plain = [
                {"text": text[start:end], "start": start, "end": end, "score": score}
                for (start, end, _), score in zip(answers, scores, strict=True)
            ]
            found.append({**plain[0], "others": plain[1:]})
        return found

    def best(self, logits_BT2: Tensor, batch: Batch) -> list[list[Answer]]:
        """The best answers to each question over all windows of its text, what is given as answer first."""
        scores, places = self._candidates(logits_BT2, batch["text_mask"])
        firsts_B = batch["attention_mask"].argmax(-1)
        nothing_B = logits_BT2[torch.arange(len(firsts_B), device=firsts_B.device), firsts_B].sum(-1).tolist()
        found: list[dict[tuple[int, int], float]] = [{} for _ in batch["texts"]]
        none = [float("inf")] * len(found)
        for row, example in enumerate(batch["example"].unique_consecutive(return_inverse=True)[1].tolist()):
            none[example] = min(none[example], nothing_B[row])
            offsets = batch["offsets"][row].tolist()
            for score, (first, last) in zip(scores[row].tolist(), places[row].tolist(), strict=True):
                if score > float("-inf"):
                    span = _without_space(batch["texts"][example], offsets[first][0], offsets[last][1])
                    found[example][span] = max(score, found[example].get(span, score))
        return [self._ranked(spans, none[number]) for number, spans in enumerate(found)]

    def _candidates(self, logits_BT2: Tensor, in_text_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (windows, candidates), and first and last token of each."""
        start_BT, end_BT = logits_BT2.masked_fill(~in_text_BT[..., None], float("-inf")).unbind(-1)
        width = start_BT.shape[1]
        allowed_TT = torch.ones(width, width, dtype=torch.bool, device=start_BT.device)
        allowed_TT = allowed_TT.triu().tril(self.choices.max_answer_tokens - 1)
        scores_BTT = (start_BT[:, :, None] + end_BT[:, None]).masked_fill(~allowed_TT, float("-inf"))
        most = min(self.choices.num_best, width * width)
        scores, flat = scores_BTT.flatten(1).topk(most)
        return scores, torch.stack((flat // width, flat % width), -1)

    def _ranked(self, spans: dict[tuple[int, int], float], none: float) -> list[Answer]:
        answers = [Answer(*span, score) for span, score in spans.items()]
        answers = sorted(answers, key=lambda answer: -answer.score)[: self.choices.num_best]
        threshold, nothing = self.choices.no_answer_threshold, Answer(0, 0, none)
        if not answers:
            return [nothing]
        if threshold is None:
            return answers
        return [nothing, *answers] if none - answers[0].score > threshold else [*answers, nothing]


def _without_space(text: str, start: int, end: int) -> tuple[int, int]:
    """A place without the spaces around it, which some tokenizers count as their words'."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
