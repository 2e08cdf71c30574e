"""How right an answer is, by the rules of SQuAD.

Rajpurkar et al., 2016, section 6.1: https://arxiv.org/abs/1606.05250
No answers: Rajpurkar et al., 2018: https://arxiv.org/abs/1806.03822
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

from torch import Tensor, nn
from torchmetrics import MeanMetric

from zoo.heads.base import Batch, Loss, Metrics
from zoo.layers import IGNORED

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """In lower case, without punctuation, articles and spaces beyond one."""
    bare = re.sub(r"\b(a|an|the)\b", " ", answer.lower().translate(_PUNCTUATION))
    return " ".join(bare.split())


def exact_match(answer: str, right: Sequence[str]) -> float:
    """Whether it is one of the right answers; none of them: it must be empty."""
    return float(normalized(answer) in map(normalized, right or [""]))


def word_f1(answer: str, right: Sequence[str]) -> float:
    """The F1 of the words that it shares with the right answer that is nearest."""
    return max(_f1(normalized(answer).split(), normalized(one).split()) for one in right or [""])


def _f1(told: list[str], right: list[str]) -> float:
    if not told or not right:
        return float(told == right)
    shared = sum((Counter(told) & Counter(right)).values())
    return 2 * shared / (len(told) + len(right))


class AnswerMetrics(Metrics):
    """Loss in nats per end of an answer, exact matches and F1 of words, over questions."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.ModuleDict({name: MeanMetric() for name in ("loss", "exact_match", "f1")})

    def update(self, loss: Loss, batch: Batch) -> None:
        """Counts one batch, which has whole questions: `texts`, and the right `answers` to each."""
        assert loss.labels is not None
        assert loss.predicted is not None
        if bool((loss.labels == IGNORED).all()):
            return
        self.means["loss"].update(loss.mean.detach(), weight=loss.num_labels)  # type: ignore[operator]
        rows = zip(batch["texts"], loss.predicted.tolist(), batch["answers"], strict=True)
        for text, (start, end), right in rows:
            for name, measure in (("exact_match", exact_match), ("f1", word_f1)):
                self.means[name].update(measure(text[start:end], right))  # type: ignore[operator]

    def compute(self) -> dict[str, Tensor]:
        """The measures by name."""
        return {name: mean.compute() for name, mean in self.means.items()}  # type: ignore[operator]

    def reset(self) -> None:
        """Starts anew."""
        for mean in self.means.values():
            mean.reset()  # type: ignore[operator]
