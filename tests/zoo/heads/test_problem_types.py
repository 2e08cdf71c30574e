"""Numbers, and any of several labels, of whole texts."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score
from torch import Tensor
from torch.testing import assert_close

import zoo
from zoo.errors import SpecError
from zoo.heads.base import Head
from zoo.layers import IGNORED

from .conftest import MODULES, Build

LABELS = ["joy", "anger", "fear"]
NUMBER = zoo.heads.SequenceClassification(problem_type="regression")
SEVERAL = zoo.heads.SequenceClassification(problem_type="multi_label_classification", labels=LABELS)
TEXTS = ["the cat", "the dog ran to a red sun", "def"]


def measured(head: Head, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    metrics = head.metrics()
    for hidden, labels in batches:
        batch = {"input_ids": torch.ones(hidden.shape[:2], dtype=torch.long), "labels": labels}
        with torch.no_grad():
            metrics.update(head.loss(hidden, batch), batch)
    return {name: float(value) for name, value in metrics.compute().items()}


def told(head: Head, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    ids = torch.ones(1, 3, dtype=torch.long)
    return torch.cat([head(hidden, {"input_ids": ids.expand(len(hidden), -1)}) for hidden, _ in batches])


def test_a_number_is_measured_over_all_that_carry_one(build: Build) -> None:
    head = build("Bert", NUMBER).head()
    batches = [(torch.randn(rows, 3, 32), torch.rand(rows) * 5) for rows in (4, 1, 6)]
    numbers, labels = told(head, batches).detach()[:, 0], torch.cat([labels for _, labels in batches])
    extra = torch.randn(2, 3, 32), torch.full((2,), float(IGNORED))
    found = measured(head, [*batches, extra])
    assert found == pytest.approx(
        {
            "loss": float(F.mse_loss(numbers, labels)),
            "mae": float((numbers - labels).abs().mean()),
            "pearson": pearsonr(numbers, labels).statistic,
            "spearman": spearmanr(numbers, labels).statistic,
        },
        rel=1e-4,
    )


def test_several_labels_are_measured_over_all_texts_that_carry_any(build: Build) -> None:
    head = build("Bert", SEVERAL).head()
    batches = [(torch.randn(rows, 3, 32), torch.randint(0, 2, (rows, 3)).float()) for rows in (4, 1, 6)]
    logits, labels = told(head, batches).detach(), torch.cat([labels for _, labels in batches])
    extra = torch.randn(2, 3, 32), torch.full((2, 3), float(IGNORED))
    guessed = logits > 0
    found = measured(head, [*batches, extra])
    assert found == pytest.approx(
        {
            "loss": float(F.binary_cross_entropy_with_logits(logits, labels)),
            "accuracy": float((guessed == labels.bool()).all(-1).float().mean()),
            "f1": f1_score(labels, guessed, average="macro"),
            "f1_micro": f1_score(labels, guessed, average="micro"),
        },
        rel=1e-4,
    )


@pytest.mark.parametrize("head", [NUMBER, SEVERAL], ids=["number", "labels"])
@pytest.mark.parametrize("family", MODULES)
def test_every_shape_tells_them_and_the_files_bring_them_back(
    build: Build, family: str, head: Any, tmp_path: Path
) -> None:
    module = build(family, head)
    found = module.predict(TEXTS)
    zoo.save(module, tmp_path)
    again = zoo.load(tmp_path)
    assert again.head_specs == {"head": head}
    assert again.predict(TEXTS) == found
    if head is SEVERAL:
        assert [one["labels"] for one in found] == [
            [label for label in LABELS if one["scores"][label] >= 0.5] for one in found
        ]
    else:
        assert [one.keys() for one in found] == [{"score"}] * 3


def test_a_batch_without_a_label_teaches_nothing(build: Build) -> None:
    for head, shape in ((NUMBER, (2,)), (SEVERAL, (2, 3))):
        ids = torch.ones(2, 3, dtype=torch.long)
        loss = build("Bert", head)(ids, labels=torch.full(shape, float(IGNORED))).loss
        assert loss is not None
        assert_close(loss, torch.zeros(()))


def test_labels_of_a_regression_are_refused() -> None:
    with pytest.raises(SpecError) as caught:
        zoo.heads.SequenceClassification(problem_type="regression", labels=LABELS)
    assert str(caught.value) == (
        "a regression has no `labels`, got ['joy', 'anger', 'fear']\n  at    labels\n"
        "  leave them out, or set problem_type: single_label_classification"
    )


def test_an_unknown_problem_type_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        zoo.heads.SequenceClassification(problem_type="regresion")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "unknown `problem_type` for zoo.heads.SequenceClassification, got 'regresion'\n"
        "  at    problem_type\n  did you mean `regression`?"
    )
