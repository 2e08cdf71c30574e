"""The head that makes a vector of a text, near those of texts that mean the same.

Reimers and Gurevych, 2019: https://arxiv.org/abs/1908.10084
Matryoshka: Kusupati et al., 2022: https://arxiv.org/abs/2205.13147
Large batches, read in chunks: Gao et al., 2021: https://arxiv.org/abs/2101.06983
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from zoo.errors import SpecError
from zoo.heads import sentence_transformers
from zoo.heads.base import Batch, Head, Loss, padded_rows
from zoo.heads.pooled import pooled
from zoo.heads.retrieval import EmbeddingMetrics
from zoo.layers import IGNORED
from zoo.specs import BackboneSpec, HeadSpec, HubHead, Shape, require_known
from zoo.tokenizer import Tokenizer

POOLINGS = ("mean", "first", "last")
LOSSES = ("contrastive", "triplet")


@dataclass(frozen=True, kw_only=True)
class Embedding(HeadSpec):
    """Makes a vector of a text; it has no weights of its own."""

    pooling: Literal["mean", "first", "last"] = "mean"
    """Of which hidden states: the mean of all, the first token's, or the last one's."""
    normalize: bool = True
    """Whether vectors have the length one."""
    loss: Literal["contrastive", "triplet"] = "contrastive"
    """How pairs without a score are learnt: each against all others of its batch, or against the nearest
    wrong one. Pairs with a score are learnt by it."""
    scale: float = 20.0
    """Of the cosines that are contrasted, the inverse of a temperature."""
    margin: float = 0.2
    """By how much the right cosine shall exceed the nearest wrong one, under `triplet`."""
    widths: list[int] = field(default_factory=list)
    """Lengths to which vectors may be cut later; the loss is the mean over these."""
    chunk_size: int | None = None
    """Texts that the backbone reads at once in training; the loss is that of the whole batch. The memory is
    that of a chunk and of all vectors, and each text is read twice. None: all texts at once. A backbone's own
    loss is not added."""

    shapes: ClassVar[tuple[Shape, ...]] = ("encoder", "decoder")
    task: ClassVar[str] = "sentence-similarity"

    expected_failures: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("a_batch_loses_what_its_rows_lose", "measures_count_and_start_anew"),
        "a pair is learnt against the others of its batch",
    )

    @classmethod
    def example(cls, backbone: BackboneSpec) -> Batch:
        """Three pairs of texts, for `zoo.testing`."""
        return {**padded_rows(backbone.vocab_size, number=6), "labels": torch.arange(3)}

    def __post_init__(self) -> None:
        require_known(self, "pooling", POOLINGS)
        require_known(self, "loss", LOSSES)
        if self.scale <= 0:
            raise SpecError(f"`scale` must be above 0, got {self.scale}", at="scale")
        if self.chunk_size is not None and self.chunk_size < 1:
            raise SpecError(f"`chunk_size` must be at least 1, got {self.chunk_size}", at="chunk_size")

    def build(self, backbone: BackboneSpec) -> "EmbeddingHead":
        """The head for a backbone of these sizes.

        Raises:
            SpecError: A width is more than the backbone's.
        """
        for width in self.widths:
            if not 0 < width <= backbone.hidden_size:
                raise SpecError(
                    f"`widths` must lie between 1 and the backbone's {backbone.hidden_size}, got {width}",
                    at="widths",
                )
        return EmbeddingHead(self)

    def hub_head(self, backbone: BackboneSpec) -> HubHead:
        """It stands in files as the backbone alone does."""
        adds = self.chunk_size is None
        return HubHead(backbone.architecture, {}, is_bare=True, adds_backbone_loss=adds)

    @classmethod
    def of_folder(cls, folder: Path) -> Self | None:
        """What sentence-transformers' files say; None where there are none."""
        found = sentence_transformers.read(folder)
        return None if found is None else cls(**found)

    def files(self, backbone: BackboneSpec) -> Mapping[str, Any]:
        """Those from which sentence-transformers reads the same."""
        return sentence_transformers.files(self.pooling, backbone.hidden_size, normalize=self.normalize)


class EmbeddingHead(Head):
    """Hidden states of a text, pooled."""

    def __init__(self, choices: Embedding) -> None:
        super().__init__()
        self.choices = choices

    def forward(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """Vectors (batch, hidden_size)."""
        pooled_BD = pooled(hidden_BTD.float(), batch, self.choices.pooling, [])
        return F.normalize(pooled_BD, dim=-1) if self.choices.normalize else pooled_BD

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """How far vectors of texts that belong together are apart.

        Args:
            hidden_BTD: Hidden states of all first texts, then of all second ones, then of any that are wrong.
            batch: `labels` (pairs): scores from 0 to 1; or numbers of the second texts, equal where two pairs
                have the same one, which is then wrong for neither. -100 is none. Without `labels`, texts to
                be searched, or to be found.
        """
        return self._of_vectors(self(hidden_BTD, batch), batch)

    def loss_from(self, hidden_states: Callable[[Batch], Tensor], batch: Batch) -> Loss:
        """The same, of which each chunk of texts is read again, with the same dropout, for its gradients."""
        if self.choices.chunk_size is None:
            return super().loss_from(hidden_states, batch)

        def vectors_of(chunk: Batch) -> Tensor:
            vectors: Tensor = self(hidden_states(chunk), chunk)
            return vectors

        chunks = _chunks(batch, self.choices.chunk_size)
        vectors = [checkpoint(vectors_of, chunk, use_reentrant=False) for chunk in chunks]
        return self._of_vectors(torch.cat(vectors), batch)

    def _of_vectors(self, vectors: Tensor, batch: Batch) -> Loss:
        if "labels" not in batch:
            return Loss(vectors.new_zeros(()), 0, predicted=vectors)
        labels_B = batch["labels"]
        is_labelled = labels_B != IGNORED
        first, *others = torch.split(vectors, len(labels_B))
        if labels_B.is_floating_point():
            told = F.cosine_similarity(first, others[0])[is_labelled]
            widths = [
                self._scored(first[..., :width], others[0][..., :width], labels_B)[is_labelled]
                for width in self._widths(vectors)
            ]
            return Loss(torch.stack(widths).mean(0).sum(), len(told), labels_B[is_labelled], told.detach())
        losses = [
            self._paired(vectors[..., :width], labels_B)[is_labelled] for width in self._widths(vectors)
        ]
        cosines = self._cosines(vectors, labels_B)
        right = cosines.argmax(-1) == torch.arange(len(labels_B), device=labels_B.device)
        is_right = right[is_labelled].long()
        return Loss(torch.stack(losses).mean(0).sum(), len(is_right), torch.ones_like(is_right), is_right)

    def _widths(self, vectors: Tensor) -> list[int]:
        return self.choices.widths or [vectors.shape[-1]]

    def _scored(self, first: Tensor, second: Tensor, scores_B: Tensor) -> Tensor:
        return (F.cosine_similarity(first, second) - scores_B).square()

    def _cosines(self, vectors: Tensor, numbers_B: Tensor) -> Tensor:
        """Cosines (pairs, texts) of first texts and all others, without others of the same number."""
        vectors = F.normalize(vectors, dim=-1)
        number = len(numbers_B)
        cosines = vectors[:number] @ vectors[number:].T
        same = numbers_B[:, None] == numbers_B[None]
        same = same & ~torch.eye(number, dtype=torch.bool, device=same.device)
        return cosines.masked_fill(F.pad(same, (0, cosines.shape[1] - number)), float("-inf"))

    def _paired(self, vectors: Tensor, numbers_B: Tensor) -> Tensor:
        cosines = self._cosines(vectors, numbers_B)
        places_B = torch.arange(len(numbers_B), device=cosines.device)
        if self.choices.loss == "contrastive":
            return F.cross_entropy(self.choices.scale * cosines, places_B, reduction="none")
        right_B = cosines[places_B, places_B]
        wrong_B = cosines.scatter(1, places_B[:, None], float("-inf")).amax(-1)
        return (self.choices.margin - right_B + wrong_B).clamp(min=0)

    def metrics(self) -> EmbeddingMetrics:
        """Of pairs with a score the correlation with it, of others how often the right text is nearest; of
        texts to be searched nDCG, recall and the reciprocal rank.
        """
        return EmbeddingMetrics()

    def predict(self, hidden_BTD: Tensor, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """The vector of each text, a list of numbers."""
        found: list[Any] = self(hidden_BTD, batch).tolist()
        return found


def _chunks(batch: Batch, size: int) -> Iterator[Batch]:
    """What is there of each text, for so many texts at a time."""
    number = len(batch["input_ids"])
    rows = {
        name: value for name, value in batch.items() if isinstance(value, Tensor) and len(value) == number
    }
    for start in range(0, number, size):
        yield {name: value[start : start + size] for name, value in rows.items()}
