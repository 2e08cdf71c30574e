"""The language model's head and its measures."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import zoo
from zoo.heads.base import Loss
from zoo.heads.causal_lm import CausalLMHead
from zoo.heads.language_model import LanguageModelMetrics
from zoo.layers import IGNORED
from zoo.specs import from_plain


def head_of(family: str = "Llama", **sizes: object) -> CausalLMHead:
    spec = getattr(zoo.decoders, family)
    head = zoo.heads.CausalLM().build(spec(**{**spec.tiny, **sizes}))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    assert isinstance(head, CausalLMHead)
    return head


def test_measures_equal_a_hand_computation_over_batches_of_many_sizes() -> None:
    head, metrics = head_of(), LanguageModelMetrics()
    nats, tokens, num_bytes = 0.0, 0, 0
    for rows, length in ((1, 5), (4, 9), (2, 3)):
        hidden, labels = torch.randn(rows, length, 32), torch.randint(0, 96, (rows, length))
        labels[0, 2:] = IGNORED
        sizes = torch.randint(1, 50, (rows,))
        with torch.no_grad():
            metrics.update(head.loss(hidden, {"labels": labels}), {"labels": labels, "num_bytes": sizes})
            logs = head(hidden, {}).log_softmax(-1)
        for row in range(rows):
            for place in range(1, length):
                if labels[row, place] != IGNORED:
                    nats -= logs[row, place - 1, labels[row, place]].item()
                    tokens += 1
        num_bytes += int(sizes.sum())
    measures = metrics.compute()
    assert measures.keys() == {"loss", "perplexity", "bits_per_byte"}
    assert measures["loss"].item() == pytest.approx(nats / tokens, rel=1e-5)
    assert measures["perplexity"].item() == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert measures["bits_per_byte"].item() == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)


def test_a_uniform_model_of_256_bytes_needs_eight_bits_a_byte() -> None:
    metrics = LanguageModelMetrics()
    metrics.update(Loss(torch.tensor(10 * math.log(256)), 10), {"num_bytes": torch.tensor([4, 6])})
    measures = metrics.compute()
    assert measures["bits_per_byte"].item() == pytest.approx(8)
    assert measures["perplexity"].item() == pytest.approx(256)


def test_without_byte_counts_there_are_no_bits_per_byte() -> None:
    metrics = LanguageModelMetrics()
    metrics.update(Loss(torch.tensor(2.0), 4), {})
    assert metrics.compute().keys() == {"loss", "perplexity"}


def test_measures_start_anew() -> None:
    metrics = LanguageModelMetrics()
    metrics.update(Loss(torch.tensor(200.0), 4), {"num_bytes": torch.tensor([9])})
    metrics.reset()
    metrics.update(Loss(torch.tensor(2.0), 4), {})
    assert metrics.compute()["loss"].item() == 0.5
    assert "bits_per_byte" not in metrics.compute()


def test_measures_of_a_batch_without_labels_are_zero_and_keep_no_graph() -> None:
    head, metrics = head_of(), LanguageModelMetrics()
    hidden = torch.randn(1, 3, 32, requires_grad=True)
    metrics.update(head.loss(hidden, {"labels": torch.full((1, 3), IGNORED)}), {})
    assert metrics.compute()["loss"].item() == 0
    assert not metrics.compute()["loss"].requires_grad


def test_measures_are_no_part_of_a_checkpoint() -> None:
    metrics = LanguageModelMetrics()
    metrics.update(Loss(torch.tensor(2.0), 4), {})
    assert not metrics.state_dict()


@pytest.mark.parametrize("family", ["Llama", "TransformerLM"])
def test_labels_stand_beside_their_own_token(family: str) -> None:
    head = head_of(family)
    hidden, labels = torch.randn(2, 6, 32), torch.randint(0, 96, (2, 6))
    expected = F.cross_entropy(
        head(hidden, {})[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
    )
    loss = head.loss(hidden, {"labels": labels})
    assert_close(loss.total, expected)
    assert loss.num_labels == 10
    assert_close(loss.mean, expected / 10)


def test_a_count_may_be_a_tensor() -> None:
    assert Loss(torch.tensor(6.0), torch.tensor(3)).mean == 2
    assert Loss(torch.tensor(0.0), torch.tensor(0)).mean == 0
    assert Loss(torch.tensor(0.0), 0).mean == 0


def test_rows_of_one_token_have_nothing_to_predict() -> None:
    loss = head_of().loss(torch.randn(2, 1, 32), {"labels": torch.zeros(2, 1, dtype=torch.long)})
    assert loss.num_labels == 0
    assert loss.mean == 0


def test_the_projection_has_a_bias_where_the_family_says_so() -> None:
    assert head_of("Llama").projection.bias is None
    assert head_of("TransformerLM").projection.bias is not None


def test_a_tied_projection_is_the_embedding() -> None:
    llama = zoo.decoders.Llama
    spec = llama(**{**llama.tiny, "tie_word_embeddings": True})
    backbone, head = spec.build(), zoo.heads.CausalLM().build(spec)
    head.tie(backbone)
    assert head.projection.weight is backbone.embedding.weight
    assert head.tied == {"projection.weight": "embedding.weight"}
    free = head_of()
    free.tie(backbone)
    assert free.projection.weight is not backbone.embedding.weight
    assert free.tied == {}


def test_the_head_goes_round_as_plain_values() -> None:
    head = zoo.heads.CausalLM()
    assert head.to_plain() == {"class_path": "zoo.heads.CausalLM", "init_args": {}}
    assert from_plain(head.to_plain()) == head
