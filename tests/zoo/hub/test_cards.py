"""The page of a pushed model: what it says, and that it says nothing that is not known."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

import zoo
from zoo.hub import cards, curves, results
from zoo.hub.runs import Run
from zoo.modules import DecoderModule, EncoderModule

from .loopback import Loopback

NAME = "me/run"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
Command = Callable[..., Any]
CURVES = {
    "train/loss": [(step, 5 / step) for step in range(1, 40)],
    "val/loss": [(20, 0.4), (39, 0.25)],
    "val/accuracy": [(20, 0.8), (39, 0.9)],
}


def run(**more: Any) -> Run:
    known: dict[str, Any] = {
        "curves": CURVES,
        "measures": {"val/accuracy": 0.9, "val/loss": 0.25},
        "num_rows": {"val/": 872},
        "data": {"stanfordnlp/sst2:train": COMMIT},
        "hardware": "1 × cpu",
        "precision": "bf16-mixed",
        "steps": 39,
        "versions": {"lightning-zoo": "0.1.0", "zoo-attention-only": "0.1"},
    }
    return Run(**{**known, **more})


def text_of(model: Any, told: Run, folder: Path) -> str:
    cards.write(folder, model, NAME, told)
    return (folder / "README.md").read_text("utf-8")


def test_a_runs_card_tells_how_the_model_was_made(
    hub: Loopback, logged_in: str, command: Command, workplace: Path
) -> None:
    ran = command(
        "fit", "--config", "recipe.yaml", "--trainer.max_steps=6", "--trainer.log_every_n_steps=2",
        "--trainer.val_check_interval=3", "--trainer.precision=bf16-mixed",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    (path,) = workplace.rglob("last.ckpt")
    pushed = command("push", str(path), NAME, "--license", "mit", "--language", "en")
    assert pushed.code == 0, pushed.err
    text = hub.read(NAME, "README.md").decode()
    card = ModelCard(text)
    assert card.data.to_dict()["model-index"][0]["results"][0]["dataset"]["split"] == "validation"
    recipe = hub.read(NAME, "recipe.yaml").decode()
    assert f"```yaml\n{recipe.rstrip()}\n```" in text
    assert yaml.safe_load(recipe)["trainer"]["max_steps"] == 6
    assert f"```sh\nzoo fit --config hub:{NAME}\n```" in text
    for line in (
        "- data: `text.txt`, which is not part of this repository",
        "- steps: 6",
        "- hardware: 1 × cpu",
        "- precision: bf16-mixed",
        f"- torch: {torch.__version__}",
        "- lightning-zoo: 0.1.0",
    ):
        assert f"\n{line}\n" in text
    rows = next(line for line in text.splitlines() if line.startswith("| validation | loss |"))
    assert int(rows.split("|")[4]) > 0
    assert "beside transformers 5.23.0 in 9 variants" in text
    assert hub.read(NAME, "training.png")[:8] == b"\x89PNG\r\n\x1a\n"
    assert "![Losses by step](training.png)" in text


def test_what_is_not_known_is_said(model: DecoderModule, tmp_path: Path) -> None:
    text = text_of(model, Run(), tmp_path)
    assert "## Measures\n\nNone were taken." in text
    assert "## How it was made\n\nIts recipe was not recorded." in text
    assert "trained from fresh weights" in text
    assert {path.name for path in tmp_path.iterdir()} == {"README.md"}


class Unproven(zoo.decoders.Llama):  # type: ignore[misc, name-defined]
    """A family of nobody's plugin."""


def test_a_family_without_a_proof_is_not_said_to_be_equal(tmp_path: Path) -> None:
    model = DecoderModule(backbone=Unproven(**zoo.decoders.Llama.tiny))
    model.build()
    assert "Not checked: its plugin tells of no reference" in text_of(model, Run(), tmp_path)


def test_a_model_without_a_head_has_a_card(model: DecoderModule, folder: Path, tmp_path: Path) -> None:
    bare = DecoderModule(backbone=model.spec, heads={})
    bare.build()
    text = text_of(bare, Run(), tmp_path)
    assert "pipeline_tag: feature-extraction" in text
    assert "model(input_ids=ids).last_hidden_state" in text
    assert "transformers.LlamaModel.from_pretrained" in text


def classifier() -> EncoderModule:
    head = zoo.heads.SequenceClassification(labels=["negative", "positive"])
    module = EncoderModule(backbone=zoo.encoders.Bert(**zoo.encoders.Bert.tiny), head=head)
    module.build()
    return module


def test_results_stand_in_both_of_the_hubs_formats(tmp_path: Path) -> None:
    card = ModelCard(text_of(classifier(), run(), tmp_path))
    assert card.data.datasets == ["stanfordnlp/sst2"]
    found = {result.metric_type: result for result in card.data.eval_results or []}
    assert found["accuracy"].metric_value == 0.9
    assert found["accuracy"].dataset_revision == COMMIT
    assert "| validation | accuracy | 0.9000 | 872 |" in card.text
    (path,) = (tmp_path / ".eval_results").iterdir()
    assert path.name == "zoo-sst2-validation-accuracy.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == (
        "stanfordnlp/sst2",
        "default",
        COMMIT,
    )
    assert (entry.value, entry.notes) == (0.9, "accuracy on validation, 872 rows")
    assert entry.source_url == f"https://huggingface.co/{NAME}"


def test_a_measure_on_nobodys_data_set_is_no_benchmarks_result(tmp_path: Path) -> None:
    text_of(classifier(), run(data={"my-texts.csv": None}), tmp_path)
    assert not (tmp_path / ".eval_results").exists()


def test_results_go_up_and_go_with_their_model(hub: Loopback, logged_in: str, tmp_path: Path) -> None:
    from zoo.hub.pushing import Place, publish

    model = classifier()
    zoo.save(model, tmp_path)
    text_of(model, run(), tmp_path)
    publish(tmp_path, Place(NAME))
    assert {".eval_results/zoo-sst2-validation-accuracy.yaml", "training.png"} < hub.repositories[
        NAME
    ].names()
    zoo.push(model, NAME)
    assert not {name for name in hub.repositories[NAME].names() if name.startswith((".eval", "training"))}


def test_without_matplotlib_the_curve_is_a_table(
    model: DecoderModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        curves.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else there(name)
    )
    text = text_of(model, run(), tmp_path)
    assert not (tmp_path / "training.png").exists()
    assert "| step | train/loss | val/loss |\n|---|---|---|\n| 1 | 5.0000 |  |\n" in text
    assert "| 39 | 0.1282 | 0.2500 |\n" in text


def test_the_picture_shows_losses_alone(tmp_path: Path) -> None:
    assert curves.losses(CURVES).keys() == {"train/loss", "val/loss"}
    assert not curves.draw({"val/accuracy": [(1, 0.5), (2, 0.6)]}, tmp_path)
    assert not curves.draw({"train/loss": [(1, 0.5)]}, tmp_path)


def test_the_command_is_one_that_works(model: DecoderModule, tmp_path: Path) -> None:
    told = run(recipe="data: {class_path: my.Data}\n")
    text = text_of(model, told, tmp_path)
    assert (
        "zoo fit --config recipe.yaml\n```\n\nwith the file of this repository; it does not run as "
        f"`hub:{NAME}`, because the recipe of `{NAME}` names 'my.Data'; one from the Hub may name registered "
        "classes, and torch's optimizers and schedulers."
    ) in text


def test_versions_name_every_plugin_that_was_used(model: DecoderModule, tmp_path: Path) -> None:
    text = text_of(model, run(), tmp_path)
    assert "- lightning-zoo: 0.1.0\n- zoo-attention-only: 0.1\n" in text
    assert (
        f"[stanfordnlp/sst2:train](https://huggingface.co/datasets/stanfordnlp/sst2) at commit `{COMMIT}`"
        in text
    )


def test_measures_of_an_earlier_step_are_said_to_be_such(model: DecoderModule, tmp_path: Path) -> None:
    recorded = {"curves": CURVES, "num_rows": {"val/": 3}, "facts": {}}
    assert "Taken at step 20 of 30." in text_of(model, Run().told(recorded, 30), tmp_path)
    assert "Taken at" not in text_of(model, Run().told(recorded, 39), tmp_path)


def test_a_measure_of_one_head_of_several_is_told_with_its_rows() -> None:
    told = run(measures={"val/topic/accuracy": 0.5}, num_rows={"val/topic/": 7})
    (measure,) = told.measured()
    assert (measure.split, measure.name, measure.num_rows) == ("validation", "topic/accuracy", 7)
    assert results.told(measure) == "topic/accuracy on validation, 7 rows"
