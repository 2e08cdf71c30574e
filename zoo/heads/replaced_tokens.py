"""The head that tells which tokens a smaller model replaced.

Clark et al., 2020: https://arxiv.org/abs/2003.10555
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import SumMetric

from zoo.errors import SpecError
from zoo.heads.base import Batch, Head, Loss, Metrics
from zoo.heads.language_model import labelled
from zoo.heads.masked_lm import MaskedLM
from zoo.layers import ACTIVATIONS, IGNORED, Linear, Mask
from zoo.specs import BackboneSpec, EncoderSpec, HeadSpec, Shape
from zoo.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ReplacedTokenDetection(HeadSpec):
    """Tells of each token whether it was replaced, by a smaller encoder that learns to guess hidden ones.

    The smaller encoder, the generator, is part of training alone: checkpoints keep it, files in the Hub's
    format do not.
    """

    generator: EncoderSpec | None = None
    """The smaller encoder; None: there is nothing to learn from."""
    detection_weight: float = 50.0
    """Of the loss of telling, beside that of guessing."""
    share_embeddings: bool = True
    """Whether the generator embeds tokens by the backbone's own table."""

    shapes: ClassVar[tuple[Shape, ...]] = ("encoder",)
    task: ClassVar[str] = "fill-mask"
    expected_failures: ClassVar[Mapping[str, str]] = {
        "no_label_is_no_loss": "every real token is told of, whether it was replaced or not"
    }

    @classmethod
    def example(cls, backbone: BackboneSpec) -> Batch:
        """Three padded texts, some of whose tokens were replaced already."""
        places_BT = torch.arange(36).view(3, 12)
        real_BT = torch.arange(12) < torch.tensor([[12], [5], [8]])
        ids_BT = (3 + places_BT * 7 % (backbone.vocab_size - 3)).where(real_BT, backbone.pad_token_id or 0)
        labels_BT = (places_BT % 5 == 0).long().where(real_BT, IGNORED)
        return {"input_ids": ids_BT, "attention_mask": real_BT.long(), "labels": labels_BT}

    def build(self, backbone: BackboneSpec) -> "ReplacedTokenHead":
        """The head for a backbone of these sizes.

        Raises:
            SpecError: The generator reads another vocabulary.
        """
        if self.generator is not None and self.generator.vocab_size != backbone.vocab_size:
            raise SpecError(
                f"the generator must read the backbone's vocabulary, got {self.generator.vocab_size} ids "
                f"and {backbone.vocab_size}",
                at="generator.vocab_size",
            )
        return ReplacedTokenHead(backbone, self)


class Generator(nn.Module):
    """An encoder that guesses hidden tokens, and what it guesses in their places."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.backbone = spec.build()
        self.head = MaskedLM().build(spec)
        self.inputs = spec.inputs

    def guess(self, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Loss]:
        """Ids in which each token that carries a label is one that was drawn, and the loss of guessing.

        Args:
            batch: Of masked language models: `input_ids`, `labels` of hidden tokens.
            generator: Draws; None: torch's own.
        """
        more = {name: batch[name] for name in self.inputs if name in batch}
        mask = Mask.from_attention_mask(batch.get("attention_mask"))
        hidden_BTD: Tensor = self.backbone(batch["input_ids"], mask, **more)
        hidden_ND, _ = labelled(hidden_BTD, batch["labels"])
        ids_BT = batch["input_ids"].masked_scatter(
            batch["labels"] != IGNORED, self._drawn(hidden_ND, generator)
        )
        return ids_BT, self.head.loss(hidden_BTD, batch)

    @torch.no_grad()
    def _drawn(self, hidden_ND: Tensor, generator: torch.Generator | None) -> Tensor:
        drawn = [hidden_ND.new_empty(0, dtype=torch.long)]
        for piece in torch.split(hidden_ND, 256):  # as the logits of all of them at once would be large
            shares = self.head(piece, {}).float().softmax(-1)
            drawn.append(torch.multinomial(shares, 1, generator=generator)[:, 0])
        return torch.cat(drawn)


class ReplacedTokenHead(Head):
    """A layer and a projection onto one number for each token, and in training the generator."""

    unpublished = ("generator",)
    generator: Generator | None

    def __init__(self, backbone: BackboneSpec, spec: ReplacedTokenDetection) -> None:
        super().__init__()
        width = backbone.hidden_size
        self.dense, self.projection = Linear(width, width), Linear(width, 1)
        self.activation = ACTIVATIONS[getattr(backbone, "hidden_act", "gelu")]
        self.generator = None if spec.generator is None else Generator(spec.generator)
        self.detection_weight, self.share_embeddings = spec.detection_weight, spec.share_embeddings

    def tie(self, backbone: nn.Module) -> None:
        """Has the generator embed tokens by the backbone's table, and guess by its own.

        Raises:
            SpecError: Their tables are of different widths.
        """
        if self.generator is None:
            return
        if self.share_embeddings:
            owner = self.generator.backbone.get_submodule("embedding")
            mine, theirs = owner.get_parameter("weight"), backbone.get_parameter("embedding.weight")
            if mine.shape != theirs.shape:
                raise SpecError(
                    "`share_embeddings` needs a generator whose embeddings are as wide as the backbone's, "
                    f"got {mine.shape[1]} and {theirs.shape[1]}",
                    at="model.head.share_embeddings",
                    hint="make it narrower elsewhere, or set share_embeddings: false",
                )
            owner.weight = theirs
        self.generator.head.tie(self.generator.backbone)

    def prepare(self, batch: Batch) -> Batch:
        """The batch as the backbone reads it: hidden tokens are replaced by what the generator draws.

        Args:
            batch: `labels` (batch, tokens) are hidden tokens; without a generator 1 for what was replaced
                already, else 0. -100 is none.

        Raises:
            SpecError: There is no generator to replace hidden tokens.
        """
        labels_BT = batch["labels"]
        if self.generator is None:
            if (labels_BT > 1).any():
                raise SpecError(
                    "zoo.heads.ReplacedTokenDetection has no generator to replace hidden tokens",
                    at="model.head.generator",
                    hint="give a smaller encoder's sizes",
                )
            return {**batch, "replaced": labels_BT == 1, "guessing": None}
        seeded = None
        if not self.training:  # the same each time
            seeded = torch.Generator(labels_BT.device).manual_seed(0)
        ids_BT, guessing = self.generator.guess(batch, seeded)
        before_BT = batch["input_ids"].where(labels_BT == IGNORED, labels_BT)
        return {**batch, "input_ids": ids_BT, "replaced": ids_BT != before_BT, "guessing": guessing}

    def forward(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """Logits (batch, tokens): above zero where a token is held for a replaced one."""
        logits_BT1: Tensor = self.projection(self.activation(self.dense(hidden_BTD)))
        return logits_BT1[..., 0]

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Cross entropy of telling and of guessing, as a mean over real tokens and over hidden ones.

        Args:
            hidden_BTD: Hidden states.
            batch: What `prepare` made.
        """
        real_BT = batch.get("attention_mask", torch.ones_like(batch["input_ids"])) > 0
        logits_N, replaced_N = self(hidden_BTD, batch)[real_BT], batch["replaced"][real_BT]
        telling = F.binary_cross_entropy_with_logits(logits_N, replaced_N.to(logits_N.dtype), reduction="sum")
        guessing: Loss | None = batch["guessing"]
        total = telling
        if guessing is not None:
            total = self.detection_weight * telling + guessing.mean * logits_N.numel()
        return Loss(total, logits_N.numel(), labels=replaced_N, predicted=logits_N > 0)

    def metrics(self) -> "ReplacedTokenMetrics":
        """Loss, the generator's, accuracy, and the share of replaced tokens that are found."""
        return ReplacedTokenMetrics()

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """Of each text the tokens that are held for replaced ones, with how sure that is."""
        scores_BT = self(hidden_BTD, batch).sigmoid()
        found = []
        for scores_T, ids, real in zip(scores_BT, batch["input_ids"], batch["attention_mask"], strict=True):
            places = ((scores_T > 0.5) & real.bool()).nonzero().flatten()
            tokens = [tokenizer.decode([token]) for token in ids[places].tolist()]
            found.append(
                {"tokens": tokens, "positions": places.tolist(), "scores": scores_T[places].tolist()}
            )
        return found


class ReplacedTokenMetrics(Metrics):
    """Losses as means, accuracy over real tokens, and recall over replaced ones."""

    def __init__(self) -> None:
        super().__init__()
        self.sums = nn.ModuleDict(
            {
                name: SumMetric()
                for name in ("total", "tokens", "right", "replaced", "found", "nats", "hidden")
            }
        )

    def update(self, loss: Loss, batch: Batch) -> None:
        """Counts one batch."""
        assert loss.labels is not None
        assert loss.predicted is not None
        guessing: Loss = batch["guessing"] or Loss(loss.total.new_zeros(()), 0)
        counted: Mapping[str, Any] = {
            "total": loss.total.detach(),
            "tokens": loss.num_labels,
            "right": (loss.predicted == loss.labels).sum(),
            "replaced": loss.labels.sum(),
            "found": (loss.predicted & loss.labels).sum(),
            "nats": guessing.total.detach(),
            "hidden": guessing.num_labels,
        }
        for name, value in counted.items():
            self._sum(name).update(value)

    def compute(self) -> dict[str, Tensor]:
        """The measures by name."""
        sums = {name: self._sum(name).compute() for name in self.sums}
        return {
            "loss": sums["total"] / sums["tokens"].clamp(min=1),
            "generator_loss": sums["nats"] / sums["hidden"].clamp(min=1),
            "accuracy": sums["right"] / sums["tokens"].clamp(min=1),
            "recall": sums["found"] / sums["replaced"].clamp(min=1),
        }

    def reset(self) -> None:
        """Starts anew."""
        for name in self.sums:
            self._sum(name).reset()

    def _sum(self, name: str) -> SumMetric:
        found = self.sums[name]
        assert isinstance(found, SumMetric)
        return found
