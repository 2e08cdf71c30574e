"""The masked language model's head and its measures."""

import math

import pytest
import torch
from torch.testing import assert_close

import zoo
from zoo.layers import IGNORED

from .conftest import Build


def test_measures_equal_a_hand_computation_over_batches_of_many_sizes(build: Build) -> None:
    head = build("Bert", zoo.heads.MaskedLM()).head()
    metrics = head.metrics()
    nats, right, tokens = 0.0, 0, 0
    for rows, length in ((1, 5), (40, 9), (2, 3)):  # the second is compared in several pieces
        hidden, labels = torch.randn(rows, length, 32), torch.randint(0, 96, (rows, length))
        labels[:, 2:] = head(hidden, {})[:, 2:].argmax(-1)
        labels[0, 1:] = IGNORED
        with torch.no_grad():
            metrics.update(head.loss(hidden, {"labels": labels}), {})
            logs = head(hidden, {}).log_softmax(-1)
        for row in range(rows):
            for place in range(length):
                if (label := int(labels[row, place])) != IGNORED:
                    nats -= logs[row, place, label].item()
                    right += int(logs[row, place].argmax()) == label
                    tokens += 1
    measures = metrics.compute()
    assert measures.keys() == {"loss", "perplexity", "accuracy"}
    assert measures["loss"].item() == pytest.approx(nats / tokens, rel=1e-5)
    assert measures["perplexity"].item() == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert measures["accuracy"].item() == pytest.approx(right / tokens)
    assert 0 < right < tokens


def test_a_batch_in_which_nothing_is_hidden_counts_nothing(build: Build) -> None:
    head = build("Bert", zoo.heads.MaskedLM()).head()
    with torch.no_grad():
        loss = head.loss(torch.randn(2, 4, 32), {"labels": torch.full((2, 4), IGNORED)})
    assert (float(loss.mean), loss.num_labels) == (0, 0)
    metrics = head.metrics()
    metrics.update(loss, {})
    assert float(metrics.compute()["accuracy"]) == 0


def test_a_started_measure_forgets(build: Build) -> None:
    head = build("Bert", zoo.heads.MaskedLM()).head()
    metrics, hidden = head.metrics(), torch.randn(2, 4, 32)
    metrics.update(head.loss(hidden, {"labels": head(hidden, {}).argmax(-1)}), {})
    assert float(metrics.compute()["accuracy"]) == 1
    metrics.reset()
    metrics.update(head.loss(hidden, {"labels": head(hidden, {}).argmin(-1)}), {})
    assert float(metrics.compute()["accuracy"]) == 0


def test_masks_are_filled_with_the_likeliest_tokens_in_order(build: Build) -> None:
    module = build("Bert", zoo.heads.MaskedLM())
    tokenizer = module.tokenizer
    assert tokenizer is not None
    texts = ["the [MASK] sat on [MASK] mat", "the dog ran", "[MASK]"]
    found = module.predict(texts)
    assert [len(one["tokens"]) for one in found] == [2, 0, 1]
    for text, one in zip(texts, found, strict=True):
        ids = torch.tensor([tokenizer.encode(text)])
        likely = module(ids).logits.softmax(-1)[0]
        places = [place for place, token in enumerate(ids[0]) if token == tokenizer.special_id("mask_token")]
        best = likely.argmax(-1)
        assert one["tokens"] == [tokenizer.decode([int(best[place])]) for place in places]
        assert_close(one["scores"], [likely[place].max().item() for place in places], rtol=1e-4, atol=1e-5)
        ids[0, places] = best[places]
        assert one["text"] == tokenizer.decode(ids[0].tolist())
