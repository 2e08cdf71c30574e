"""Corpora that are searched, and pairs with scores."""

import json
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.data import Retrieval, Similarity
from zoo.errors import DataError
from zoo.modules import EncoderModule

ANIMALS = ["cat", "dog", "fox", "owl", "cow", "pig"]


def corpus(folder: Path, layout: str = "flat") -> Path:
    folder.mkdir(exist_ok=True)
    rows = [
        {"_id": f"t{n}", "title": name, "text": f"all about the {name}"} for n, name in enumerate(ANIMALS)
    ]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = [{"_id": f"q{n}", "text": f"what is a {name}"} for n, name in enumerate(ANIMALS)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)))
    (folder / "qrels").mkdir(exist_ok=True)
    for split, numbers in (("train", range(4)), ("test", range(4, 6))):
        lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\tt{n}\t1" for n in numbers), "q0\tt5\t0"]
        place = f"qrels_{split}.tsv" if layout == "flat" else f"qrels/{split}.tsv"
        (folder / place).write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("layout", ["flat", "beir"])
def test_pairs_are_trained_on_and_the_whole_corpus_is_searched(tmp_path: Path, layout: str) -> None:
    data = Retrieval(str(corpus(tmp_path / "data", layout)), vocab_size=120, batch_size=4)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert batch["input_ids"].shape[0] == 8
    assert sorted(batch["labels"].tolist()) == [0, 1, 2, 3]
    texts = [data.tokenizer.decode(ids.tolist()) for ids in batch["input_ids"]]
    for number, question, text in zip(batch["labels"], texts[:4], texts[4:], strict=True):
        assert question == f"what is a {ANIMALS[number]}"
        assert text == f"{ANIMALS[number]} all about the {ANIMALS[number]}"
    questions, *rest = data.val_dataloader()
    assert questions["relevant"] == [{4: 1}, {5: 1}]
    assert [number for found in rest for number in found["numbers"].tolist()] == list(range(6))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q9\tt1\t1", "there is no question `q9` for a judgement"),
        ("q1\tt9\t1", "there is no text `t9` for a judgement"),
        ("q1\tt1", "a row has no `score`"),
    ],
)
def test_a_judgement_of_nothing_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = corpus(tmp_path / "data") / "qrels_train.tsv"
    path.write_text(path.read_text() + f"\n{line}")
    with pytest.raises(DataError) as caught:
        Retrieval(str(tmp_path / "data")).examples()
    assert (caught.value.message, caught.value.source) == (message, f"{path}:7")


@pytest.mark.parametrize("name", ["corpus", "queries"])
def test_an_id_of_two_rows_is_refused(tmp_path: Path, name: str) -> None:
    path = corpus(tmp_path / "data") / f"{name}.jsonl"
    (key,) = {json.loads(path.read_text().splitlines()[2])["_id"]}
    path.write_text(path.read_text() + "\n" + json.dumps({"_id": key, "text": "another"}))
    with pytest.raises(DataError) as caught:
        Retrieval(str(tmp_path / "data")).examples()
    assert str(caught.value) == (
        f"`_id` is `{key}` a second time, the first is {path}:3\n  in    {path}:7\n"
        "  give each row an id of its own, or leave such rows out: data.on_bad_row: skip"
    )
    data = Retrieval(str(tmp_path / "data"), on_bad_row="skip")
    data.examples()
    assert "another" not in data.corpus
    assert data.bad_rows.count > 0


def test_held_out_questions_that_are_trained_on_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = corpus(tmp_path / "data") / "qrels_train.tsv"
    Retrieval(str(tmp_path / "data")).examples()
    assert capsys.readouterr().err == ""
    path.write_text(path.read_text() + "\nq4\tt4\t1")
    Retrieval(str(tmp_path / "data")).examples()
    assert capsys.readouterr().err == (
        "zoo: 1 of 2 held-out rows stand in the training data, too\n"
        "  the first: `what is a cow` and `what is a cow`\n"
        "  leave them out of the judgements of one split\n"
    )


def test_scores_are_from_nothing_to_one(tmp_path: Path) -> None:
    rows = [{"sentence1": f"a {n}", "sentence2": "b", "score": n} for n in range(6)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = Similarity(str(tmp_path / "a.jsonl"), vocab_size=120, batch_size=3)
    data.setup("fit")
    every = [*data.examples()[0], *data.examples()[1]]
    assert sorted(example.score for example in every) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    batch = next(iter(data.train_dataloader()))
    assert (len(batch["input_ids"]), len(batch["labels"])) == (6, 3)
    with pytest.raises(DataError) as caught:
        Similarity(str(tmp_path / "a.jsonl"), largest_score=1).examples()
    assert str(caught.value) == (
        f"`score` must lie between 0 and 1, got 2\n  in    {tmp_path / 'a.jsonl'}:3\n  set data.largest_score"
    )


def test_a_search_is_learnt(tmp_path: Path) -> None:
    import lightning as L

    spec = zoo.encoders.Bert(**{**zoo.encoders.Bert.tiny, "vocab_size": 160, "max_position_embeddings": 256})
    module = EncoderModule(spec, zoo.heads.Embedding())
    data = Retrieval(str(corpus(tmp_path / "data")), vocab_size=120, batch_size=2)
    choices: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", num_sanity_val_steps=0, enable_model_summary=False, **choices
    )
    trainer.fit(module, datamodule=data)
    assert {name for name in trainer.callback_metrics if name.startswith("val/")} == {
        "val/ndcg_at_10", "val/recall_at_10", "val/recall_at_100", "val/mrr_at_10",
    }  # fmt: skip
    assert float(trainer.callback_metrics["val/recall_at_10"]) == 1
