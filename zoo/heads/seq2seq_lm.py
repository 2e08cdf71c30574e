"""The writer's head of an encoder-decoder: the next token of what is written, given what was read.

Sutskever et al., 2014: https://arxiv.org/abs/1409.3215
"""

from dataclasses import dataclass
from typing import ClassVar

from zoo.errors import SpecError
from zoo.heads.language_model import LanguageModelHead
from zoo.specs import BackboneSpec, HeadSpec, Shape


@dataclass(frozen=True, kw_only=True)
class Seq2SeqLM(HeadSpec):
    """Predicts each token of a text from those before it and from another text."""

    label_smoothing: float = 0.0
    """Share of a label's weight that is spread over all tokens in training (Szegedy et al., 2015:
    https://arxiv.org/abs/1512.00567)."""

    shapes: ClassVar[tuple[Shape, ...]] = ("encoder-decoder",)
    task: ClassVar[str] = "text2text-generation"

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise SpecError(
                f"`label_smoothing` must lie in [0, 1), got {self.label_smoothing}", at="label_smoothing"
            )

    def build(self, backbone: BackboneSpec) -> "Seq2SeqLMHead":
        """The head for a backbone of these sizes."""
        return Seq2SeqLMHead(backbone, "Seq2SeqLM", self.label_smoothing)


class Seq2SeqLMHead(LanguageModelHead):
    """A projection onto the vocabulary; what the decoder reads is shifted already, so labels are not."""

    generates = True
