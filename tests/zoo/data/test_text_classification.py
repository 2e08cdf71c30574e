"""Texts with labels."""

import builtins
import csv
import json
import random
import types
from pathlib import Path
from typing import Any

import datasets
import lightning as L
import pytest
import torch

import zoo
from zoo.data import TextClassification
from zoo.errors import DataError, SpecError
from zoo.modules import EncoderModule

KINDS = {"pet": ["cat", "dog"], "sky": ["sun", "moon"], "food": ["bread", "soup"]}


def write(path: Path, number: int = 90, names: dict[str, Any] | None = None) -> str:
    draw = random.Random(0)
    with path.open("w") as file:
        for index in range(number):
            kind = draw.choice(list(KINDS))
            text = f"the {draw.choice(KINDS[kind])} is {'very ' * draw.randint(0, 5)}red {index}"
            file.write(json.dumps({"text": text, "label": (names or {}).get(kind, kind)}) + "\n")
    return str(path)


def data_of(source: str, **choices: Any) -> TextClassification:
    return TextClassification(
        source, **{"validation_fraction": 0.2, "vocab_size": 96, "batch_size": 4, "max_length": 32, **choices}
    )


def module_of(labels: list[str] | None = None) -> EncoderModule:
    spec = zoo.encoders.Bert(**{**zoo.encoders.Bert.tiny, "num_hidden_layers": 1})
    return EncoderModule(spec, zoo.heads.SequenceClassification(labels=labels))


def attach(data: L.LightningDataModule, module: L.LightningModule) -> None:
    data.trainer = types.SimpleNamespace(lightning_module=module)  # type: ignore[assignment]


def test_texts_are_wholly_on_one_side_and_always_the_same(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl")
    with open(source, "a") as file:  # the same texts again
        file.write(Path(source).read_text())
    training, held_out = data_of(source).examples()
    assert len(training) + len(held_out) == 180
    assert 10 < len(held_out) < 70
    assert not {example.text for example in training} & {example.text for example in held_out}
    assert data_of(source).examples() == (training, held_out)


def test_batches_are_padded_texts_and_the_numbers_of_their_labels(tmp_path: Path) -> None:
    data = data_of(write(tmp_path / "rows.jsonl"))
    data.setup("fit")
    assert data.labels == ["food", "pet", "sky"]
    held_out, seen = data.examples()[1], 0
    for batch in data.val_dataloader():
        for ids, real, label in zip(
            batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
        ):
            assert data.labels[label] == held_out[seen].label
            assert data._tokenizer is not None
            assert ids[real.bool()].tolist() == data._tokenizer.encode(held_out[seen].text)
            seen += 1
    assert seen == len(held_out)


def test_a_text_that_is_too_long_is_cut(tmp_path: Path) -> None:
    data = data_of(write(tmp_path / "rows.jsonl"), max_length=6)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    assert batch["input_ids"].shape == (4, 6)
    assert data._tokenizer is not None
    last = batch["input_ids"].gather(1, batch["attention_mask"].sum(-1, keepdim=True) - 1)
    assert (last == data._tokenizer.special_id("sep_token")).all()


@pytest.mark.parametrize("names", [{"pet": 0, "sky": 1, "food": 2}, {"pet": "0", "sky": "1", "food": "2"}])
def test_numbers_are_places_among_the_heads_labels(tmp_path: Path, names: dict[str, Any]) -> None:
    data = data_of(write(tmp_path / "rows.jsonl", names=names))
    module = module_of(["pet", "sky", "food"])
    attach(data, module)
    data.setup("fit")
    numbers = {row.item() for batch in data.val_dataloader() for row in batch["labels"]}
    assert numbers == {0, 1, 2}
    assert module.head_specs["head"] == zoo.heads.SequenceClassification(labels=["pet", "sky", "food"])


def test_numbers_without_names_are_in_the_order_of_their_size(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((f"text {number}", number) for number in range(12))])
    assert data_of(str(path)).found_labels() == [str(number) for number in range(12)]


def test_a_head_without_labels_takes_those_of_the_data(tmp_path: Path) -> None:
    data, module = data_of(write(tmp_path / "rows.jsonl")), module_of()
    attach(data, module)
    data.setup("fit")
    assert module.head_specs["head"] == zoo.heads.SequenceClassification(labels=["food", "pet", "sky"])
    module.build()
    assert module(torch.ones(1, 3, dtype=torch.long)).logits.shape == (1, 3)


def test_data_serves_a_second_model_as_the_first(tmp_path: Path) -> None:
    data, one, other = data_of(write(tmp_path / "rows.jsonl")), module_of(), module_of(["sky", "food", "pet"])
    batches = []
    for module in (one, other):
        attach(data, module)
        data.setup("fit")
        assert module.tokenizer is not None
        batches.append(next(iter(data.val_dataloader())))
    assert one.tokenizer == other.tokenizer
    moved = torch.tensor([1, 2, 0])  # food, pet, sky
    assert torch.equal(moved[batches[0]["labels"]], batches[1]["labels"])


@pytest.mark.parametrize(
    ("line", "message", "place"),
    [
        ('{"text": "a", "label": ""}', "`label` is empty", 3),
        ('{"text": "a", "label": "car"}', "`label` is `car`, which is none of the head's labels", 3),
        ('{"text": "a", "label": 3}', "`label` is `3`, which is none of the head's labels", 3),
        ('{"text": "a"}', "a row has no `label`", 3),
        ('{"text": "a", "label": 0.5}', "`label` must be a text, got float", 3),
        ('{"text": "a", "label": true}', "`label` must be a text, got bool", 3),
        ('{"text": 7, "label": "pet"}', "`text` must be a text, got int", 3),
    ],
)
def test_a_row_that_is_wrong_is_refused_with_its_place(
    tmp_path: Path, line: str, message: str, place: int
) -> None:
    source = write(tmp_path / "rows.jsonl", 2)
    with open(source, "a") as file:
        file.write(line + "\n")
    data = data_of(source)
    attach(data, module_of(["food", "pet", "sky"]))
    with pytest.raises(DataError) as caught:
        data.setup("fit")
    assert (caught.value.message, caught.value.source) == (message, f"{source}:{place}")
    if "none of" in message:
        assert caught.value.hint == "they are: food, pet, sky"


def told(source: str, head: Any, **choices: Any) -> tuple[TextClassification, EncoderModule]:
    spec = zoo.encoders.Bert(**{**zoo.encoders.Bert.tiny, "num_hidden_layers": 1})
    data, module = data_of(source, **choices), EncoderModule(spec, head)
    attach(data, module)
    data.setup("fit")
    return data, module


NUMBER = zoo.heads.SequenceClassification(problem_type="regression")
SEVERAL = zoo.heads.SequenceClassification(problem_type="multi_label_classification")


@pytest.mark.parametrize("columns", [("sentence1", "sentence2"), ("text_a", "text_b"), ("left", "right")])
def test_pairs_are_read_as_the_tokenizer_joins_them(tmp_path: Path, columns: tuple[str, str]) -> None:
    rows = [{columns[0]: f"cat {n}", columns[1]: f"a red dog {n}", "label": n % 2} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = {"text": list(columns)} if "left" in columns else {}
    data = data_of(str(tmp_path / "rows.jsonl"), **given)
    data.setup("fit")
    held_out, seen = data.examples()[1], []
    assert data._tokenizer is not None
    for batch in data.val_dataloader():
        assert "token_type_ids" in batch
        seen += [
            ids[real.bool()].tolist()
            for ids, real in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
    assert seen == [list(data._tokenizer.backend.encode(*example.text).ids) for example in held_out]
    assert data.questions()[0].text == held_out[0].text


def test_numbers_are_told_of_texts(tmp_path: Path) -> None:
    rows = [("text", "score"), *((f"cat {n}", n / 4) for n in range(20))]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    data, module = told(str(tmp_path / "rows.csv"), NUMBER)
    numbers = {number for batch in data.val_dataloader() for number in batch["labels"].tolist()}
    assert numbers == {int(example.text[4:]) / 4 for example in data.examples()[1]}
    assert module.head_specs["head"] == NUMBER
    assert (data.measure.name, data.baselines()) == ("pearson", {})


@pytest.mark.parametrize("form", ["list", "csv"])
def test_several_labels_are_told_of_texts(tmp_path: Path, form: str) -> None:
    held = [[], ["joy"], ["joy", "fear"], ["anger"]]
    if form == "list":
        lines = (json.dumps({"text": f"cat {n}", "labels": held[n % 4]}) for n in range(20))
    else:
        lines = iter(["text,labels", *(f"cat {n},{'|'.join(held[n % 4])}" for n in range(20))])
    source = tmp_path / f"rows.{'jsonl' if form == 'list' else 'csv'}"
    source.write_text("\n".join(lines))
    data, module = told(str(source), SEVERAL)
    assert data.labels == ["anger", "fear", "joy"]
    rows = [row for batch in data.val_dataloader() for row in batch["labels"].tolist()]
    for example, row in zip(data.examples()[1], rows, strict=True):
        names = held[int(str(example.text)[4:]) % 4]
        assert row == [float(label in names) for label in data.labels]
    assert module.head_specs["head"].labels == data.labels


@pytest.mark.parametrize(
    ("head", "line", "message", "hint"),
    [
        (NUMBER, '{"text": "a", "label": "high"}', "`label` must be a number, got 'high'", None),
        (NUMBER, '{"text": "a", "label": true}', "`label` must be a number, got True", None),
        (NUMBER, '{"text": "a", "label": NaN}', "`label` must be a number, got nan", None),
        (
            SEVERAL, '{"text": "a", "label": 3}', "`label` must be labels, got 3",
            "give a list, or in a csv names with `|` between",
        ),
        (
            NUMBER, '{"text": " ", "label": 1}', "`text` is empty",
            "give it a text, or leave such rows out: data.on_bad_row: skip",
        ),
        (NUMBER, '{"text_a": "b", "text_b": "", "label": 1}', "`text_b` is empty",
            "give it a text, or leave such rows out: data.on_bad_row: skip"),
        (NUMBER, '{"txt": "b", "label": 1}', "a row has no `text`", "did you mean `txt`?"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_with_its_place(
    tmp_path: Path, head: Any, line: str, message: str, hint: str | None
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a cat", "label": "1"}\n' * 3 + line)
    with pytest.raises(DataError) as caught:
        told(str(path), head)
    assert (caught.value.message, caught.value.source, caught.value.hint) == (message, f"{path}:4", hint)


def test_a_folder_is_trained_on_by_its_splits(tmp_path: Path) -> None:
    write(tmp_path / "train-0.jsonl", 20)
    write(tmp_path / "dev.jsonl", 7)
    write(tmp_path / "test.jsonl", 3)
    training, held_out = data_of(str(tmp_path), validation="validation").examples()
    assert (len(training), len(held_out)) == (20, 7)
    training, held_out = data_of(f"{tmp_path}:dev", validation="test").examples()
    assert (len(training), len(held_out)) == (7, 3)
    with pytest.raises(DataError) as caught:
        data_of(str(tmp_path), validation="other").examples()
    assert str(caught.value) == (
        f"the folder {tmp_path} has no split `other`\n  its files: dev.jsonl, test.jsonl, train-0.jsonl"
    )


def test_a_data_set_of_the_hub_is_trained_on_by_its_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*name: str, **choices: str) -> datasets.Dataset:
        asked.append((*name, choices))
        return datasets.Dataset.from_dict({"sentence": ["a cat"] * 3, "label": [0, 1, 0]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data_of("me/films@main#cola", validation="validation").examples()
    chosen = {"name": "cola", "revision": "main"}
    assert asked == [("me/films", {"split": split, **chosen}) for split in ("train", "validation")]


@pytest.mark.parametrize(("labels", "message"), [(1, "`labels` must name at least two, got ['pet']")])
def test_data_of_one_label_teach_nothing(tmp_path: Path, labels: int, message: str) -> None:
    data = data_of(write(tmp_path / "rows.jsonl", names=dict.fromkeys(KINDS, "pet")))
    attach(data, module_of())
    with pytest.raises(SpecError) as caught:
        data.setup("fit")
    assert str(caught.value) == f"{message}\n  at    model.head.labels"


def test_one_row_leaves_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        data_of(write(tmp_path / "rows.jsonl", 1)).examples()
    assert str(caught.value) == "there is no example to train on\n  give more, or another split"


def test_a_source_for_validation_is_held_out_whole(tmp_path: Path) -> None:
    training, held_out = data_of(
        write(tmp_path / "rows.jsonl"), validation=write(tmp_path / "others.jsonl", 7)
    ).examples()
    assert (len(training), len(held_out)) == (90, 7)


def test_names_of_labels_come_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    rows = {"text": [f"text {number}" for number in range(20)], "label": [0, 1] * 10}
    made = datasets.Dataset.from_dict(rows, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: made)
    data = data_of("me/films")
    assert data.found_labels() == ["negative", "positive"]
    for example in (*data.examples()[0], *data.examples()[1]):
        assert example.label == ("positive" if int(example.text.split()[1]) % 2 else "negative")


def test_baselines_are_the_commonest_label_and_weighted_words(tmp_path: Path) -> None:
    data = data_of(write(tmp_path / "rows.jsonl"))
    training, held_out = data.examples()
    labels = [example.label for example in training]
    commonest = max(sorted(set(labels)), key=labels.count)
    found = data.baselines()
    assert found["the commonest label"] == pytest.approx(
        sum(example.label == commonest for example in held_out) / len(held_out)
    )
    assert found["TF-IDF and logistic regression"] == 1  # a word tells the label


def test_without_its_extra_a_baseline_is_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("sklearn"):
            raise ModuleNotFoundError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert data_of(write(tmp_path / "rows.jsonl")).baselines().keys() == {"the commonest label"}
    assert capsys.readouterr().out == (
        "The baseline TF-IDF is left out; it needs: pip install 'lightning-zoo[baselines]'\n"
    )
