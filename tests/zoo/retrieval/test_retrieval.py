"""A corpus is indexed once, searched by what encoded it, and answered from with the passage named."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.errors import DataError, SpecError, ZooError
from zoo.modules.base import ZooModule
from zoo.retrieval import Index, answer, build, index
from zoo.tokenizer import train

TEXTS = [f"{animal} number {count} sat on the {thing}" for count, (animal, thing) in enumerate(
    (animal, thing) for animal in ("cat", "dog", "fox", "owl") for thing in ("mat", "sun", "hill")
)]  # fmt: skip


def model(head: Any, seed: int = 0) -> ZooModule:
    torch.manual_seed(seed)
    bert = zoo.encoders.Bert
    module = zoo.modules.EncoderModule(backbone=bert(**{**bert.tiny, "vocab_size": 300}), head=head)
    module.build()
    module.adopt_tokenizer(train("wordpiece", TEXTS, 300))
    return module.eval()


@pytest.fixture
def encoder() -> ZooModule:
    return model(zoo.heads.Embedding())


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    rows = [{"_id": f"p{number}", "text": text} for number, text in enumerate([*TEXTS, TEXTS[0]])]
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_a_passage_is_found_by_itself_and_a_text_stands_once(
    kind: Any, encoder: ZooModule, corpus: str, tmp_path: Path
) -> None:
    build(encoder, corpus, tmp_path / "index", kind=kind)
    found = Index(tmp_path / "index", encoder)
    assert len(found) == len(TEXTS)
    for number, passages in enumerate(found.search(TEXTS, k=3)):
        assert (passages[0].id, passages[0].text) == (f"p{number}", TEXTS[number])
        assert passages[0].score == pytest.approx(1, abs=1e-5)
        assert [one.score for one in passages] == sorted((one.score for one in passages), reverse=True)


def test_a_passage_may_hold_any_break_of_lines(encoder: ZooModule, tmp_path: Path) -> None:
    texts = [f"{TEXTS[0]}{separator}{TEXTS[1]}" for separator in ("\u2028", "\x85", "\n", "\x1c")]
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    (found,) = build(encoder, str(path), tmp_path / "index").search([TEXTS[0]], k=4)
    assert {passage.text for passage in found} == set(texts)


def test_what_was_interrupted_goes_on_and_ends_the_same(
    encoder: ZooModule, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "NUM_AT_ONCE", 4)
    build(encoder, corpus, tmp_path / "whole")
    predict, seen = encoder.predict, []

    def watched(texts: Any, *more: Any) -> Any:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(texts)
        return predict(texts, *more)

    monkeypatch.setattr(encoder, "predict", watched)
    with pytest.raises(KeyboardInterrupt):
        build(encoder, corpus, tmp_path / "broken")
    with pytest.raises(DataError, match=r"holds no index.faiss, so it is no index"):
        Index(tmp_path / "broken", encoder)
    seen[:] = [None]  # one call is left, for the last four
    build(encoder, corpus, tmp_path / "broken")
    assert len(seen[1]) == 4
    whole, mended = (np.load(tmp_path / name / "vectors.npy") for name in ("whole", "broken"))
    assert np.array_equal(whole, mended)


def test_an_index_of_another_encoder_or_corpus_is_refused(
    encoder: ZooModule, corpus: str, tmp_path: Path
) -> None:
    build(encoder, corpus, tmp_path / "index")
    for other in (model(zoo.heads.Embedding(), seed=1), model(zoo.heads.Embedding(pooling="first"))):
        with pytest.raises(DataError, match=r"was built by BertModel with the weights \w{8}, not by"):
            Index(tmp_path / "index", other)
        with pytest.raises(DataError, match="was built by"):
            build(other, corpus, tmp_path / "index")
    Path(corpus).write_text(json.dumps({"text": "another"}))
    with pytest.raises(DataError, match="holds an index of another corpus"):
        build(encoder, corpus, tmp_path / "index")


def test_mistakes_are_told(
    encoder: ZooModule, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="`context`"):
        build(encoder, corpus, tmp_path / "index", column="context")
    with pytest.raises(SpecError, match="`kind` must be one of exact, hnsw, got `flat`"):
        build(encoder, corpus, tmp_path / "index", kind="flat")  # type: ignore[arg-type]
    with pytest.raises(ZooError, match=r"a reader has a tokenizer and the head zoo.heads.ExtractiveQA"):
        answer(encoder, build(encoder, corpus, tmp_path / "index"), ["who"])
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "faiss" else there(name))
    with pytest.raises(ZooError, match="an index needs the extra `retrieval`"):
        Index(tmp_path / "index", encoder)


def test_an_answer_stands_in_the_passage_that_it_cites(
    encoder: ZooModule, corpus: str, tmp_path: Path
) -> None:
    found = build(encoder, corpus, tmp_path / "index")
    reader = model(zoo.heads.ExtractiveQA(stride=4), seed=2)
    told = answer(reader, found, ["where is the cat", "who sat on the sun"], k=4)
    for one, passages in zip(told, found.search([one["question"] for one in told], 4), strict=True):
        cited = one["passage"]
        assert one["answer"] == cited["text"][cited["start"] : cited["end"]] != ""
        assert one["passages"] == [passage.id for passage in passages]
        assert cited["id"] in one["passages"]
        assert TEXTS[int(cited["id"][1:])] == cited["text"]
        alone = [answer(reader, _Only(passage), [one["question"]])[0]["score"] for passage in passages]
        assert one["score"] == pytest.approx(max(alone), abs=1e-5)


class _Only:
    """An index that finds one passage."""

    def __init__(self, passage: index.Passage) -> None:
        self.passage = passage

    def search(self, questions: Any, k: int) -> Any:
        return [[self.passage] for _ in questions]
