"""The language model's head: what comes next.

Radford et al., 2018: https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from zoo.heads.base import Batch, Loss
from zoo.heads.language_model import LanguageModelHead
from zoo.layers import IGNORED
from zoo.layers.losses import chunk_tokens
from zoo.specs import BackboneSpec, HeadSpec, Shape
from zoo.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class CausalLM(HeadSpec):
    """Predicts each token from those before it."""

    shapes: ClassVar[tuple[Shape, ...]] = ("decoder",)
    task: ClassVar[str] = "text-generation"

    def build(self, backbone: BackboneSpec) -> "CausalLMHead":
        """The head for a backbone of these sizes."""
        return CausalLMHead(backbone, "CausalLM")


class CausalLMHead(LanguageModelHead):
    """A projection onto the vocabulary, read at the token before."""

    generates = True

    def loss(self, hidden_BTD: Tensor, batch: Batch) -> Loss:
        """Cross entropy of each label given the tokens before it.

        Args:
            hidden_BTD: Hidden states.
            batch: `labels` (batch, tokens) stand beside their own token, as on the Hub; -100 is none.
        """
        return super().loss(hidden_BTD[:, :-1], {"labels": batch["labels"][:, 1:]})

    def log_probs(self, hidden_BTD: Tensor, labels_BT: Tensor) -> Tensor:
        """Log-probability of each label given the tokens before it, (batch, tokens - 1); zero where none is.

        Logits are made again in the backward pass, chunk by chunk, so that they are never whole in memory.
        """
        labels_BT = labels_BT[:, 1:]
        is_labelled_BT = labels_BT != IGNORED
        hidden_ND, labels_N = hidden_BTD[:, :-1][is_labelled_BT], labels_BT[is_labelled_BT]
        rows = chunk_tokens(self.projection.out_features)
        told = [
            checkpoint(self._told, *chunk, use_reentrant=False)
            for chunk in zip(torch.split(hidden_ND, rows), torch.split(labels_N, rows), strict=True)
        ]
        told_BT = torch.zeros(labels_BT.shape, dtype=torch.float32, device=hidden_BTD.device)
        return told_BT.masked_scatter(is_labelled_BT, torch.cat(told))

    def _told(self, hidden_ND: Tensor, labels_N: Tensor) -> Tensor:
        return -F.cross_entropy(self(hidden_ND, {}).float(), labels_N, reduction="none")

    def encode(self, texts: Sequence[Any], tokenizer: Tokenizer, max_length: int) -> Batch:
        """Texts to be continued, or chats to be answered."""
        if any(isinstance(text, str) for text in texts):
            return super().encode(texts, tokenizer, max_length)
        return dict(tokenizer.batch_chats(texts, add_generation_prompt=True))
