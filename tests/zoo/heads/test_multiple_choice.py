"""One of several answers."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import zoo
from zoo.errors import GenerationError
from zoo.layers import IGNORED

from .conftest import Build

HEAD = zoo.heads.MultipleChoice()
ASKED = [("who ran", ["the dog", "a cat"]), ("the cat sat on", ["the mat", "sun", "a red dog"])]


@pytest.mark.parametrize("family", ["Bert", "Llama"])
def test_answers_are_scored_among_those_to_their_question(build: Build, family: str, tmp_path: Path) -> None:
    module = build(family, HEAD)
    tokenizer = module.tokenizer
    assert tokenizer is not None
    found = module.predict(ASKED)
    for (question, choices), one in zip(ASKED, found, strict=True):
        batch = tokenizer.batch([(question, choice) for choice in choices])
        batch = {name: batch[name] for name in {"input_ids", "attention_mask", *module.inputs(batch)}}
        logits = module(**batch, num_choices=torch.tensor([len(choices)])).logits
        assert logits.shape == (1, len(choices))
        assert one["number"] == int(logits.argmax())
        assert one["answer"] == choices[one["number"]]
        assert one["score"] == pytest.approx(logits.softmax(-1).max().item(), abs=1e-5)
    zoo.save(module, tmp_path)
    assert zoo.load(tmp_path, head=HEAD).predict(ASKED) == found


def test_loss_is_that_of_each_question_alone(build: Build) -> None:
    head = build("Bert", HEAD).head()
    hidden, ids = torch.randn(7, 3, 32), torch.ones(7, 3, dtype=torch.long)
    batch = {
        "input_ids": ids,
        "num_choices": torch.tensor([3, 2, 2]),
        "labels": torch.tensor([2, 0, IGNORED]),
    }
    with torch.no_grad():
        loss, logits = head.loss(hidden, batch), head(hidden, batch)
    assert logits[1].tolist()[2] == float("-inf")
    assert_close(loss.total, F.cross_entropy(logits[:1], batch["labels"][:1]) + F.cross_entropy(
        logits[1:2, :2], batch["labels"][1:2]
    ))  # fmt: skip
    metrics = head.metrics()
    metrics.update(loss, batch)
    right = float((logits[:2].argmax(-1) == batch["labels"][:2]).float().mean())
    assert float(metrics.compute()["accuracy"]) == right


def test_a_question_without_answers_is_refused(build: Build) -> None:
    with pytest.raises(GenerationError) as caught:
        build("Bert", HEAD).predict(["who ran"])
    assert str(caught.value) == (
        "a question is asked with its answers\n  give pairs: (question, [answer, …])"
    )
