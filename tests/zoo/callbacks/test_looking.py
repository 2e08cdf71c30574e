"""What TensorBoard shows of held-out rows: confusion, calibration, examples, spans, attention."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.metrics import confusion_matrix
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

import zoo
from zoo import extras
from zoo.callbacks import AttentionMaps, Calibration, ConfusionMatrix, Examples
from zoo.callbacks.calibration import Bins
from zoo.callbacks.examples import Example, table
from zoo.errors import SpecError, ZooError
from zoo.heads.base import Look
from zoo.modules.base import ZooModule

WORDS = ("cat", "dog", "sun", "mat")


def classes(folder: Path, number: int = 40) -> Any:
    rows = [
        {"text": f"a {WORDS[n % 4]} and {WORDS[n % 3]} {n}", "label": WORDS[n % 4]} for n in range(number)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return zoo.data.TextClassification(
        str(folder / "rows.jsonl"), validation_fraction=0.5, vocab_size=200, max_length=16, batch_size=4
    )


def encoder(head: Any) -> ZooModule:
    sizes = {**zoo.encoders.Bert.tiny, "vocab_size": 300, "pad_token_id": 0}
    return zoo.modules.EncoderModule(zoo.encoders.Bert(**sizes), head)


def shown(module: ZooModule, data: Any, folder: Path, *callbacks: Any) -> EventAccumulator:
    """What a short run leaves for TensorBoard."""
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=list(callbacks), enable_checkpointing=False,
        logger=TensorBoardLogger(folder), enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return EventAccumulator(str(trainer.log_dir)).Reload()


def text_of(events: EventAccumulator, tag: str) -> str:
    found: bytes = events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0]
    return found.decode()


def test_a_classifier_is_looked_at(tmp_path: Path) -> None:
    module, data = encoder(zoo.heads.SequenceClassification()), classes(tmp_path)
    confusion, calibration, examples = ConfusionMatrix(), Calibration(), Examples(num_first=2, num_worst=3)
    maps = AttentionMaps("the cat and the dog", layers=[0, -1])
    events = shown(module, data, tmp_path, confusion, calibration, examples, maps)
    tags = set(events.Tags()["images"])
    assert tags == {"val/confusion_matrix", "val/calibration", "attention/0", "attention/1"}
    assert "val/calibration_error" in events.Tags()["scalars"]
    held_out = data.questions()
    told = [found["label"] for found in module.predict([text for text, _ in held_out])]
    right = [answer for _, answer in held_out]
    (counts,) = confusion._kept.values()
    assert counts.matrix.compute().tolist() == confusion_matrix(right, told, labels=sorted(WORDS)).tolist()
    first = text_of(events, "val/examples_first").splitlines()[2:]
    assert [line.split(" | ")[1] for line in first] == [text for text, _ in held_out[:2]]
    assert [line.split(" | ")[2].strip("*") for line in first] == told[:2]
    losses = [
        float(line.split(" | ")[0][2:]) for line in text_of(events, "val/examples_worst").splitlines()[2:]
    ]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 3


def test_words_are_shown_with_their_spans(tmp_path: Path) -> None:
    rows = [
        {"tokens": ["see", "Ada", "Lovelace", str(n)], "ner_tags": ["O", "B-PER", "I-PER", "O"]}
        for n in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = zoo.data.TokenClassification(
        str(tmp_path / "rows.jsonl"), validation_fraction=0.3, vocab_size=200, max_length=16, batch_size=4
    )
    events = shown(
        encoder(zoo.heads.TokenClassification()), data, tmp_path, Examples(num_first=2), ConfusionMatrix()
    )
    number = data.questions()[0].text.split()[-1]
    right = text_of(events, "val/examples_first").splitlines()[2].split(" | ")[3]
    assert right.lower().startswith(f"see [ada lovelace: per] {number}")
    assert "val/confusion_matrix" in events.Tags()["images"]


ROWS: dict[str, dict[str, Any]] = {
    "regression": {"text": "a cat", "label": 2.5},
    "multi_label_classification": {"text": "a cat", "label": ["cat", "dog"]},
}


@pytest.mark.parametrize("kind", list(ROWS))
def test_other_kinds_of_labels_are_shown_in_words(kind: Any, tmp_path: Path) -> None:
    rows = [{**ROWS[kind], "text": f"a cat {n}"} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = zoo.data.TextClassification(
        str(tmp_path / "rows.jsonl"), vocab_size=200, max_length=16, batch_size=4
    )
    module = encoder(zoo.heads.SequenceClassification(problem_type=kind))
    line = text_of(shown(module, data, tmp_path, Examples()), "val/examples_worst").splitlines()[2]
    assert line.split(" | ")[3].rstrip(" |") == {"regression": "2.50"}.get(kind, "cat, dog")


def test_answers_to_questions_are_shown(tmp_path: Path) -> None:
    asked = zoo.data.ExtractiveQA.example(tmp_path)
    events = shown(encoder(zoo.heads.ExtractiveQA(stride=4)), asked, tmp_path, Examples(num_worst=2))
    worst = text_of(events, "val/examples_worst").splitlines()[2:]
    assert [line.split(" | ")[3].rstrip(" |") for line in worst] == ["Anna", "Anna"]
    assert all("who is" in line for line in worst)


def test_the_answers_that_are_chosen_are_shown(tmp_path: Path) -> None:
    data = zoo.data.MultipleChoice.example(tmp_path)
    module = encoder(zoo.heads.MultipleChoice())
    events = shown(module, data, tmp_path, Examples(num_first=1), Calibration())
    question = data.questions()[0]
    (chosen,) = module.predict([question.text])
    _, _, told, right = text_of(events, "val/examples_first").splitlines()[2].strip("| ").split(" | ")
    assert told.strip("*").endswith(chosen["answer"])
    assert right.endswith(question.answer)
    assert "val/calibration" in events.Tags()["images"]


def test_what_a_head_does_not_tell_row_by_row_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat\n" * 200)
    data = zoo.data.Text(
        str(tmp_path / "text.txt"), vocab_size=100, tokenizer="wordpiece", sequence_length=16, batch_size=2
    )
    with pytest.raises(ZooError) as caught:
        shown(encoder(zoo.heads.MaskedLM()), data, tmp_path, ConfusionMatrix())
    assert str(caught.value) == (
        "zoo.callbacks.ConfusionMatrix has nothing to show of zoo.heads.MaskedLM\n"
        "  at    trainer.callbacks\n  leave it out"
    )


@pytest.mark.parametrize("make", [ConfusionMatrix, Calibration, lambda: AttentionMaps("a")])
def test_pictures_need_their_extra(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ZooError, match=r"needs the extra `pictures`\n  pip install 'lightning-zoo\[pictures\]'"
    ):
        make()


def test_bins_count_what_is_right_by_how_sure_it_was() -> None:
    bins = Bins(4)
    bins.update(torch.tensor([0.1, 0.9, 1.0]), torch.tensor([True, False, True]))
    bins.update(torch.tensor([0.3]), torch.tensor([True]))
    answers, right, confidence = bins.compute()
    assert answers.tolist() == [1, 1, 0, 2]
    assert right.tolist() == [1, 1, 0, 0.5]
    assert confidence.tolist() == pytest.approx([0.1, 0.3, 0, 0.95])


def test_what_is_kept_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    module = encoder(zoo.heads.SequenceClassification(labels=["cat", "dog"]))
    module.adopt_tokenizer(classes(tmp_path).shared_tokenizer(lambda: ["a cat and a dog"]))
    confusion, calibration, examples = ConfusionMatrix(), Calibration(), Examples(num_first=2, num_worst=3)
    losses = torch.rand(50, 8, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(8, dtype=torch.long)
    for callback in (confusion, calibration, examples):
        kept: Any = None
        for part in losses:
            look = Look(torch.arange(8), part, ["a"] * 8, ["b"] * 8, ones, ones, part, ["cat", "dog"])
            kept = callback.start(look, module) if kept is None else kept
            callback.add(kept, look, {"input_ids": torch.ones(8, 4, dtype=torch.long)}, module)
        if callback is examples:
            assert (len(kept.first), len(kept.worst)) == (2, 3)
            worst = sorted((example.loss for example in kept.worst), reverse=True)
            assert worst == pytest.approx(losses.flatten().topk(3).values.tolist())
        else:
            metric = kept if callback is calibration else kept.matrix
            states = [value for name, value in metric.metric_state.items()]
            assert all(isinstance(state, Tensor) and state.numel() <= 15 for state in states)


def test_a_table_of_examples_holds_any_text() -> None:
    lines = table([Example(0.5, "a | b\n<i>", "x", "y"), Example(0.25, "c" * 600, "x", "x")]).splitlines()
    assert lines[2] == "| 0.500 | a \\| b &lt;i> | **x** | y |"
    assert lines[3] == f"| 0.250 | {'c' * 500} … | x | x |"


def test_an_encoder_decoder_is_seen_reading_and_writing(tmp_path: Path) -> None:
    sizes = {**zoo.encoder_decoders.Transformer.tiny, "vocab_size": 300, "pad_token_id": 0}
    module = zoo.modules.EncoderDecoderModule(zoo.encoder_decoders.Transformer(**sizes))
    module.build()
    module.adopt_tokenizer(classes(tmp_path).shared_tokenizer(lambda: ["a cat and a dog"]))
    assert module.tokenizer is not None
    maps = AttentionMaps("a cat and a dog", target="a cat")._maps(module, module.tokenizer)
    sizes_of = [tuple(weights.shape[1:]) for weights, *_ in maps]
    read, written = len(maps[0][1]), len(maps[-1][1])
    assert read > written
    assert sizes_of == [(read, read)] * 2 + [(written, written), (written, read)] * 2
    assert all([len(looking), len(seen)] == [*weights.shape[1:]] for weights, looking, seen in maps)


def test_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    module = encoder(zoo.heads.SequenceClassification())
    with pytest.raises(SpecError, match="`layers` names 5, the model has 2 attentions"):
        shown(module, classes(tmp_path), tmp_path, AttentionMaps("a cat", layers=[5]))


def test_looking_changes_no_number_of_a_run(tmp_path: Path) -> None:
    def trained(*callbacks: Any) -> nn.Module:
        torch.manual_seed(0)
        module = encoder(zoo.heads.SequenceClassification())
        shown(module, classes(tmp_path), tmp_path, *callbacks)
        return module

    plain, seen = trained(), trained(Examples(), ConfusionMatrix(), Calibration(), AttentionMaps("a cat"))
    for one, other in zip(plain.parameters(), seen.parameters(), strict=True):
        assert torch.equal(one, other)
