"""What the measures of an evaluation keep: sums, whatever the number of rows, and never logits.

What keeps a bounded number of each row has a test that names it.
"""

from collections import deque
from collections.abc import Mapping
from types import FunctionType, MethodType
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from zoo import registry
from zoo.heads.base import Batch, Loss, Metrics
from zoo.heads.retrieval import DEEP, EmbeddingMetrics
from zoo.testing.heads import HeadSubject

HEADS = sorted(registry.usable("zoo.heads"))


def num_kept(value: Any, seen: set[int]) -> int:
    """Numbers and texts that can be reached from a value."""
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, FunctionType | MethodType | type) or id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, Mapping):
        return sum(num_kept(item, seen) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return sum(num_kept(item, seen) for item in value)
    inside = getattr(value, "__dict__", None)
    return 1 if inside is None else num_kept(inside, seen)


def growth(metrics: Metrics, loss: Loss, batch: Batch, times: int = 8) -> int:
    """How many numbers more are kept after so many more batches like this one."""
    kept = []
    for count in (2, times):
        for _ in range(count):
            metrics.update(loss, batch)
        kept.append(num_kept(metrics, set()))
    return kept[1] - kept[0]


@pytest.mark.parametrize("name", HEADS)
def test_measures_keep_no_more_of_more_rows(name: str) -> None:
    head = HeadSubject(registry.usable("zoo.heads")[name])
    for module, batch in head.models():
        module.eval()
        with torch.no_grad():
            batch = module.head().prepare(batch)
            loss = module.head().loss(module.hidden_states(batch), batch)
        assert growth(module.head().metrics(), loss, batch) == 0


def test_a_correlation_of_ranks_keeps_two_numbers_of_each_row() -> None:
    loss = Loss(torch.tensor(1.0), 5, torch.rand(5), torch.rand(5))
    assert growth(EmbeddingMetrics(), loss, {}) == 8 * 2 * 5
    labels = zoo.heads.SequenceClassification(problem_type="regression")
    metrics = labels.build(zoo.encoders.Bert(**zoo.encoders.Bert.tiny)).metrics()
    assert growth(metrics, loss, {}) == 8 * 2 * 5


def test_a_search_keeps_questions_and_their_grades_while_texts_come_and_go() -> None:
    metrics, width, grade = EmbeddingMetrics(), 4, 1
    questions = Loss(torch.zeros(()), 0, predicted=torch.randn(3, width))
    relevant = [{number: grade} for number in range(3)]
    assert growth(metrics, questions, {"relevant": relevant}) <= 8 * 3 * (width + grade)
    texts = Loss(torch.zeros(()), 0, predicted=torch.randn(DEEP, width))
    assert growth(metrics, texts, {"numbers": torch.arange(DEEP)}) == 0


def test_measures_that_keep_logits_are_told_from_others() -> None:
    class Hoard(Metrics):
        def __init__(self) -> None:
            super().__init__()
            self.reset()

        def update(self, loss: Loss, batch: Batch) -> None:
            self.logits.append(loss.total)

        def compute(self) -> dict[str, Tensor]:
            return {"loss": torch.cat(self.logits).mean()}

        def reset(self) -> None:
            self.logits: list[Tensor] = []

    assert growth(Hoard(), Loss(torch.randn(3, 7), 3), {}) == 8 * 21
