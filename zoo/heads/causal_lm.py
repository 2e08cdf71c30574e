"""The language model's head: what comes next.

Radford et al., 2018: https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from zoo.heads.base import Batch, Loss
from zoo.heads.language_model import LanguageModelHead
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

    def encode(self, texts: Sequence[Any], tokenizer: Tokenizer, max_length: int) -> Batch:
        """Texts to be continued, or chats to be answered."""
        if any(isinstance(text, str) for text in texts):
            return super().encode(texts, tokenizer, max_length)
        return dict(tokenizer.batch_chats(texts, add_generation_prompt=True))
