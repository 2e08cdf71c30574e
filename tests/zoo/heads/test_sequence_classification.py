"""The head that says of which kind a text is."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score, matthews_corrcoef
from torch import Tensor
from torch.testing import assert_close

import zoo
from zoo.errors import CheckpointError, GenerationError, SpecError, ZooError
from zoo.heads.sequence_classification import SequenceClassificationHead
from zoo.layers import IGNORED
from zoo.specs import HubHead
from zoo.tokenizer import Tokenizer

from .conftest import MODULES, Build

LABELS = ["bad", "good", "neither"]
HEAD = zoo.heads.SequenceClassification(labels=LABELS)
TEXTS = ["the cat", "the dog ran to a red sun", "def", "the mat and the cat sat on the dog", "sun"]


def pooled(pooling: str, hidden: Tensor, batch: dict[str, Tensor], monkeypatch: Any) -> Tensor:
    spec = zoo.encoders.Bert(**{**zoo.encoders.Bert.tiny, "eos_token_id": [7, 8]})
    hub_head = HubHead("Any", {}, pooling=pooling)  # type: ignore[arg-type]
    monkeypatch.setattr(type(spec), "hub_head", lambda self, name: hub_head)
    head = SequenceClassificationHead(spec, [str(number) for number in range(32)])
    torch.nn.init.eye_(head.projection.weight)
    logits: Tensor = head(hidden, batch)
    return logits


@pytest.mark.parametrize(
    ("pooling", "places"),
    [("first", [0, 0, 2, 3]), ("last", [4, 2, 4, 4]), ("eos", [4, 1, 3, 4])],
)
def test_the_token_that_stands_for_a_text_is_found_beside_any_padding(
    pooling: str, places: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = torch.randn(4, 5, 32)
    real = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1]])
    # An end within the padding is none; the last one counts; a text that was cut has none.
    ids = torch.tensor([[7, 1, 8, 1, 7], [1, 8, 1, 7, 7], [7, 7, 1, 7, 1], [7, 7, 7, 1, 1]])
    found = pooled(pooling, hidden, {"input_ids": ids, "attention_mask": real}, monkeypatch)
    assert_close(found, hidden[torch.arange(4), places])


def test_the_mean_is_that_of_real_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, ids = torch.randn(2, 5, 32), torch.zeros(2, 5, dtype=torch.long)
    real = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 0]])
    expected = torch.stack((hidden[0].mean(0), hidden[1, 2:4].mean(0)))
    found = pooled("mean", hidden, {"input_ids": ids, "attention_mask": real}, monkeypatch)
    assert_close(found, expected)
    assert_close(pooled("mean", hidden, {"input_ids": ids}, monkeypatch), hidden.mean(1))


@pytest.mark.parametrize(("pooling", "place"), [("first", 0), ("last", 4)])
def test_without_a_mask_every_token_is_real(
    pooling: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = torch.randn(2, 5, 32)
    ids = torch.zeros(2, 5, dtype=torch.long)
    assert_close(pooled(pooling, hidden, {"input_ids": ids}, monkeypatch), hidden[:, place])


def test_loss_and_measures_equal_a_hand_computation(build: Build) -> None:
    head = build("Bert", HEAD).head()
    metrics, every_label, every_guess, nats = head.metrics(), [], [], 0.0
    for rows in (1, 7, 4):
        batch = {"input_ids": torch.ones(rows, 3, dtype=torch.long)}
        hidden, labels = torch.randn(rows, 3, 32), torch.randint(0, 2, (rows,))  # the third is never right
        labels[rows // 2 :: 3] = IGNORED
        with torch.no_grad():
            loss = head.loss(hidden, {**batch, "labels": labels})
            logits = head(hidden, batch)
        metrics.update(loss, batch)
        if (labels == IGNORED).all():
            assert float(loss.mean) == 0
            continue
        assert_close(loss.mean, F.cross_entropy(logits, labels))
        for label, row in zip(labels.tolist(), logits, strict=True):
            if label != IGNORED:
                every_label.append(label)
                every_guess.append(int(row.argmax()))
                nats -= row.log_softmax(-1)[label].item()
    measures = {name: float(value) for name, value in metrics.compute().items()}
    right = sum(map(int.__eq__, every_label, every_guess))
    assert measures == pytest.approx(
        {
            "loss": nats / len(every_label),
            "accuracy": right / len(every_label),
            "f1": f1_score(every_label, every_guess, average="macro"),
            "mcc": matthews_corrcoef(every_label, every_guess),
        },
        rel=1e-5,
    )


@pytest.mark.parametrize("family", MODULES)
def test_every_shape_classifies_and_padding_changes_nothing(build: Build, family: str) -> None:
    module = build(family, HEAD)
    tokenizer = module.tokenizer
    assert tokenizer is not None
    found = module.predict(TEXTS)
    for text, one in zip(TEXTS, found, strict=True):
        logits = module(torch.tensor([tokenizer.encode(text)])).logits
        assert logits.shape == (1, 3)
        assert one["label"] == LABELS[int(logits.argmax())]
        assert one["score"] == pytest.approx(logits.softmax(-1).max().item(), abs=1e-5)
        (alone,) = module.predict([text])
        assert alone["label"] == one["label"]
        assert alone["score"] == pytest.approx(one["score"], abs=1e-5)


@pytest.mark.parametrize("family", MODULES)
def test_padding_on_the_left_changes_nothing(build: Build, family: str) -> None:
    module = build(family, HEAD)
    ids, real = torch.randint(5, 90, (1, 6)), torch.ones(1, 6, dtype=torch.long)
    padded = F.pad(ids, (3, 0)), F.pad(real, (3, 0))
    assert_close(module(*padded).logits, module(ids, real).logits, rtol=1e-4, atol=1e-5)


def test_more_texts_than_are_asked_at_once_keep_their_order(build: Build) -> None:
    module = build("Bert", HEAD)
    texts = [f"{'cat ' * (number % 7 + 1)}{number}" for number in range(70)]
    found = module.predict(texts)
    assert len(found) == 70
    for number in (0, 31, 32, 63, 64, 69):
        assert found[number]["score"] == pytest.approx(module.predict([texts[number]])[0]["score"], abs=1e-5)


def test_pairs_are_read_as_one_text(build: Build) -> None:
    module = build("Bert", HEAD)
    ((one), (swapped), (joined)) = module.predict(
        [("the cat", "a dog"), ("a dog", "the cat"), "the cat a dog"]
    )
    assert len({round(found["score"], 6) for found in (one, swapped, joined)}) == 3


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a cat", ""], "text 1 is empty\n  give at least one token"),
        ("a cat", "`predict` takes a list of texts, got one text"),
    ],
)
def test_what_is_no_text_is_refused(build: Build, texts: Any, message: str) -> None:
    module = build("Llama", HEAD)
    assert module.tokenizer is not None
    own = Tokenizer.from_plain(module.tokenizer.to_plain())  # the fixture's serves other tests, too
    own.backend.post_processor = None  # type: ignore[assignment]
    module.adopt_tokenizer(own)
    with pytest.raises(GenerationError) as caught:
        module.predict(texts)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["one"], "`labels` must name at least two, got ['one']"),
        ([], "`labels` must name at least two, got []"),
        (["a", "b", "a"], "`labels` must differ, got `a` twice"),
    ],
)
def test_labels_that_tell_nothing_apart_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        zoo.heads.SequenceClassification(labels=labels)
    assert (caught.value.message, caught.value.at) == (message, "labels")


@pytest.mark.parametrize(("choice", "at"), [("head", "model.head"), ("heads", "model.heads.kind")])
def test_without_labels_it_says_where_they_are_missing(build: Build, choice: str, at: str) -> None:
    head = zoo.heads.SequenceClassification()
    given = {"head": head} if choice == "head" else {"heads": {"kind": head}}
    with pytest.raises(SpecError) as caught:
        build("Bert", **given)
    assert str(caught.value) == (
        f"zoo.heads.SequenceClassification knows no labels\n  at    {at}.labels\n"
        "  give them, or train on data that names them"
    )


@pytest.mark.parametrize("family", MODULES)
def test_labels_stand_in_config_json_and_come_back(build: Build, family: str, tmp_path: Path) -> None:
    module = build(family, HEAD)
    zoo.save(module, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good", "2": "neither"}
    assert config["label2id"] == {"bad": 0, "good": 1, "neither": 2}
    again = zoo.load(tmp_path)
    assert again.head_specs == {"head": HEAD}
    assert again.predict(TEXTS) == module.predict(TEXTS)


def test_ten_labels_and_more_keep_their_numbers() -> None:
    labels = [f"label {number}" for number in range(12)]
    plain = zoo.heads.SequenceClassification(labels=labels).to_hub()
    assert zoo.heads.SequenceClassification.of_config(dict(sorted(plain.items()))).labels == labels


def test_a_config_without_names_has_the_hubs_two() -> None:
    assert zoo.heads.SequenceClassification.of_config({}).labels == ["LABEL_0", "LABEL_1"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"problem_type": "regression"}, "config.json says regression and 2"),
        (
            {"problem_type": "single_label_classification", "id2label": {"0": "LABEL_0"}},
            "config.json says single_label_classification and 1",
        ),
    ],
)
def test_other_problems_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        zoo.heads.SequenceClassification.of_config(config)
    assert str(caught.value) == (
        f"zoo.heads.SequenceClassification tells one number or several labels, {message}"
    )


def test_a_checkpoint_takes_no_other_head(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        zoo.load(tmp_path / "last.ckpt", head=HEAD)
    assert str(caught.value) == (
        f"{tmp_path / 'last.ckpt'} is a run's checkpoint, which has its own head, so it takes no `head`"
    )


def test_what_a_backbone_does_not_read_is_refused(build: Build) -> None:
    ids = torch.ones(1, 3, dtype=torch.long)
    with pytest.raises(TypeError, match=r"^zoo\.decoders\.Llama takes no `token_type_ids`$"):
        build("Llama", HEAD)(ids, token_type_ids=ids)


def test_heads_are_asked_by_name(build: Build) -> None:
    module = build("Bert", heads={"kind": HEAD, "words": zoo.heads.MaskedLM()})
    assert module.predict(["cat"], "kind")[0].keys() == {"label", "score"}
    assert module.predict(["cat"], "words")[0].keys() == {"text", "tokens", "scores"}
    with pytest.raises(ZooError) as caught:
        module.predict(["cat"])
    assert str(caught.value) == ("the model has several heads, and none was named\n  its heads: kind, words")
    with pytest.raises(ZooError) as caught:
        module.predict(["cat"], "kinds")
    assert str(caught.value) == "the model has no head `kinds`\n  did you mean `kind`?"


@pytest.mark.parametrize("name", ["items", "training", "two words", "forward"])
def test_a_head_cannot_be_named_as_what_is_there(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        zoo.modules.EncoderModule(zoo.encoders.Bert(), heads={name: HEAD})
    assert str(caught.value) == f"a head cannot be named `{name}`\n  at    heads.{name}"
