"""Vectors of texts."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import pearsonr, spearmanr
from torch import Tensor
from torch.testing import assert_close
from torchmetrics.functional.retrieval import (
    retrieval_normalized_dcg,
    retrieval_recall,
    retrieval_reciprocal_rank,
)
from transformers import AutoModel

import zoo
from zoo.errors import CheckpointError, SpecError
from zoo.heads.base import Loss
from zoo.heads.embedding import EmbeddingHead
from zoo.heads.retrieval import EmbeddingMetrics, measures
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule

from .conftest import Build

TEXTS = ["the cat", "the dog ran to a red sun", "def"]


def head_of(**choices: Any) -> EmbeddingHead:
    return zoo.heads.Embedding(**choices).build(zoo.encoders.Bert(**zoo.encoders.Bert.tiny))


def batch_of(rows: int, labels: Tensor) -> dict[str, Any]:
    return {"input_ids": torch.ones(rows, 3, dtype=torch.long), "labels": labels}


@pytest.mark.parametrize("family", ["Bert", "Llama"])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_a_vector_is_that_of_transformers_hidden_states(
    build: Build, family: str, pooling: Any, tmp_path: Path
) -> None:
    head = zoo.heads.Embedding(pooling=pooling, normalize=pooling != "first")
    module = build(family, head)
    found = torch.tensor(module.predict(TEXTS))
    zoo.save(module, tmp_path)
    reference = AutoModel.from_pretrained(tmp_path).eval()
    assert module.tokenizer is not None
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            hidden = reference(torch.tensor([module.tokenizer.encode(text)])).last_hidden_state[0]
        expected = {"mean": hidden.mean(0), "first": hidden[0], "last": hidden[-1]}[pooling]
        assert_close(
            vector, F.normalize(expected, dim=0) if head.normalize else expected, rtol=1e-4, atol=1e-5
        )
    again = zoo.load(tmp_path)
    assert again.head_specs == {"head": head}
    assert again.predict(TEXTS) == module.predict(TEXTS)
    assert ((tmp_path / "modules.json").read_text().count("Normalize") > 0) == head.normalize


def test_a_model_of_another_head_leaves_nothing_of_sentences(build: Build, tmp_path: Path) -> None:
    zoo.save(build("Bert", zoo.heads.Embedding()), tmp_path)
    assert (tmp_path / "1_Pooling" / "config.json").is_file()
    zoo.save(build("Bert", zoo.heads.MaskedLM()), tmp_path)
    assert not [path for path in tmp_path.rglob("*.json") if path.parent != tmp_path]
    assert not (tmp_path / "modules.json").exists()


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        (
            [{"type": "a.b.Dense"}], {},
            "{0}/modules.json names a module `Dense`, known are: Transformer, Pooling, Normalize",
        ),
        ({}, {}, "{0}/modules.json holds no list of modules"),
        (
            [{"type": "a.b.Pooling"}], {"pooling_mode_max_tokens": True},
            "{0}/1_Pooling/config.json asks for pooling_mode_max_tokens, which the zoo does not do",
        ),
    ],
)  # fmt: skip
def test_what_sentence_transformers_ask_and_the_zoo_lacks_is_refused(
    build: Build, tmp_path: Path, modules: Any, pooling: Any, message: str
) -> None:
    zoo.save(build("Bert", zoo.heads.Embedding()), tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(CheckpointError) as caught:
        zoo.load(tmp_path)
    assert caught.value.message == message.format(tmp_path)


def test_pairs_are_contrasted_with_all_others_of_their_batch() -> None:
    head, hidden = head_of(scale=7.0), torch.randn(12, 3, 32)
    labels = torch.tensor([5, 9, 5, IGNORED])  # the first and the third have the same text
    vectors = F.normalize(hidden.mean(1), dim=-1)
    first, second, wrong = vectors.split(4)
    nats = []
    for row in range(3):
        others = [column for column in range(4) if column == row or labels[column] != labels[row]]
        texts = torch.cat((second[others], wrong))
        nats.append(F.cross_entropy(7.0 * first[row] @ texts.T, torch.tensor(others.index(row))))
    loss = head.loss(hidden, batch_of(12, labels))
    assert_close(loss.mean, torch.stack(nats).mean())
    assert loss.num_labels == 3


def test_a_triplet_is_of_the_nearest_wrong_text() -> None:
    head, hidden = head_of(loss="triplet", margin=0.5), torch.randn(8, 3, 32)
    first, second = F.normalize(hidden.mean(1), dim=-1).split(4)
    expected = [
        max(0.0, 0.5 - float(first[row] @ second[row])
            + max(float(first[row] @ second[other]) for other in range(4) if other != row))
        for row in range(4)
    ]  # fmt: skip
    assert float(head.loss(hidden, batch_of(8, torch.arange(4))).mean) == pytest.approx(
        sum(expected) / 4, abs=1e-5
    )


def test_scores_are_learnt_by_the_cosine_and_at_every_width() -> None:
    hidden, scores = torch.randn(8, 3, 32), torch.tensor([0.1, 0.9, 0.5, float(IGNORED)])
    first, second = hidden.mean(1).split(4)
    expected = [
        (F.cosine_similarity(first[:3, :width], second[:3, :width]) - scores[:3]).square().mean()
        for width in (32, 8)
    ]
    assert_close(head_of(normalize=False).loss(hidden, batch_of(8, scores)).mean, expected[0])
    assert_close(head_of(widths=[32, 8]).loss(hidden, batch_of(8, scores)).mean, torch.stack(expected).mean())


def test_a_width_beyond_the_backbones_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        head_of(widths=[64])
    assert caught.value.message == "`widths` must lie between 1 and the backbone's 32, got 64"


def test_correlations_are_those_of_scipy() -> None:
    metrics, told, right = head_of().metrics(), torch.rand(40), torch.randint(0, 6, (40,)) / 5
    for piece in (slice(0, 7), slice(7, 40)):
        metrics.update(Loss(torch.tensor(1.0), len(told[piece]), right[piece], told[piece]), {})
    found = metrics.compute()
    assert float(found["pearson"]) == pytest.approx(pearsonr(told, right).statistic, abs=1e-5)
    assert float(found["spearman"]) == pytest.approx(spearmanr(told, right).statistic, abs=1e-5)


def test_measures_of_a_search_are_those_of_torchmetrics() -> None:
    draw = random.Random(0)
    for _ in range(20):
        scores = torch.rand(30)
        grades = {number: draw.choice([1, 1, 2]) for number in draw.sample(range(30), 4)}
        target = torch.tensor([grades.get(number, 0) for number in range(30)])
        found = measures([scores.argsort(descending=True).tolist()], [grades])
        assert found["ndcg_at_10"] == pytest.approx(
            float(retrieval_normalized_dcg(scores, target, top_k=10)), abs=1e-5
        )
        assert found["recall_at_10"] == pytest.approx(
            float(retrieval_recall(scores, target > 0, top_k=10)), abs=1e-5
        )
        theirs = float(retrieval_reciprocal_rank(scores, target > 0, top_k=10))
        assert found["mrr_at_10"] == pytest.approx(theirs, abs=1e-5)


def test_a_search_batch_by_batch_finds_what_one_over_all_finds() -> None:
    torch.manual_seed(3)
    questions, texts, numbers = torch.randn(5, 8), torch.randn(300, 8), torch.randperm(300)
    relevant = [{int(numbers[row * 7]): 1, int(numbers[row]): 2} for row in range(5)]
    metrics = EmbeddingMetrics()
    for piece in (questions[:2], questions[2:]):
        rows = relevant[: len(piece)] if len(piece) == 2 else relevant[2:]
        metrics.update(Loss(torch.zeros(()), 0, predicted=piece), {"relevant": rows})
    for start in range(0, 300, 64):
        piece = texts[start : start + 64]
        metrics.update(Loss(torch.zeros(()), 0, predicted=piece), {"numbers": numbers[start : start + 64]})
    order = (questions @ texts.T).argsort(descending=True)
    expected = measures(numbers[order].tolist(), relevant)
    assert {name: float(value) for name, value in metrics.compute().items()} == pytest.approx(
        expected, abs=1e-6
    )


def pairs_of_texts(number: int) -> dict[str, Any]:
    ids = torch.randint(3, 90, (2 * number, 9), generator=torch.Generator().manual_seed(1))
    real = (torch.arange(9) < torch.arange(2 * number)[:, None] % 7 + 3).long()
    return {"input_ids": ids * real, "attention_mask": real, "labels": torch.arange(number)}


def gradients_of(module: ZooModule, loss: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    loss.backward()
    return {name: part.grad.clone() for name, part in module.named_parameters() if part.grad is not None}


@pytest.mark.parametrize("family", ["Bert", "Llama"])
@pytest.mark.parametrize("loss", ["contrastive", "triplet"])
@pytest.mark.parametrize("size", [1, 5, 64])
def test_gradients_of_chunks_are_those_of_one_pass(build: Build, family: str, loss: Any, size: int) -> None:
    whole, chunked = (
        build(family, zoo.heads.Embedding(loss=loss, widths=[32, 8], chunk_size=chunk)).double()
        for chunk in (None, size)
    )
    chunked.load_state_dict(whole.state_dict())
    batch = pairs_of_texts(8)
    losses = [module.loss(batch).mean for module in (whole, chunked)]
    assert_close(losses[1], losses[0])
    expected, found = (
        gradients_of(module, one) for module, one in zip((whole, chunked), losses, strict=True)
    )
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close(found[name], gradient, rtol=0, atol=1e-6, msg=name)  # vectors are float32


def test_a_chunk_is_read_again_with_the_same_dropout(build: Build) -> None:
    sizes = {"hidden_dropout_prob": 0.4, "attention_probs_dropout_prob": 0.4}
    module = build("Bert", zoo.heads.Embedding(chunk_size=3), sizes=sizes).train()
    batch, found = pairs_of_texts(4), []
    torch.manual_seed(5)
    found.append(gradients_of(module, module.loss(batch).mean))
    torch.manual_seed(5)
    rows = {name: value.split(3) for name, value in batch.items() if name != "labels"}
    pieces = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    hidden = torch.cat([module.hidden_states(piece) for piece in pieces])
    found.append(gradients_of(module, module.head().loss(hidden, batch).mean))
    for name, gradient in found[1].items():
        assert_close(found[0][name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_no_more_than_a_chunk_and_the_vectors_are_kept(build: Build) -> None:
    kept = []
    for size in (None, 4):
        module = build("Bert", zoo.heads.Embedding(chunk_size=size)).train()
        held: dict[int, int] = {}

        def keep(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            module.loss(pairs_of_texts(32))
        weights = {part.untyped_storage().data_ptr() for part in module.parameters()}
        kept.append(sum(size for place, size in held.items() if place not in weights))
    assert kept[1] < kept[0] / 8


def test_a_chunk_of_no_texts_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        zoo.heads.Embedding(chunk_size=0)
    assert caught.value.message == "`chunk_size` must be at least 1, got 0"
