"""The callback that publishes a run's model: at its end, the best, or on the way."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from huggingface_hub import ModelCard
from lightning.pytorch.callbacks import Callback

import zoo
from zoo.callbacks import PushToHub
from zoo.data import Text
from zoo.errors import CheckpointError, ZooError
from zoo.modules import DecoderModule

from .loopback import TOKEN, Fault, Loopback

NAME = "me/run"
Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.hub.pushing.time.sleep", lambda _: None)


def fit(model: DecoderModule, folder: Path, *callbacks: Callback, **choices: Any) -> None:
    (folder / "words.txt").write_text("the cat sat on the mat.\n" * 60)
    data = Text(source=str(folder / "words.txt"), vocab_size=300, sequence_length=16, batch_size=8)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
        callbacks=list(callbacks), **{"max_epochs": 1, "enable_checkpointing": False, **choices},
    )  # fmt: skip
    trainer.fit(model.train(), datamodule=data)


class Save(Callback):
    """Writes a checkpoint every step."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "some.ckpt")


def fresh() -> DecoderModule:
    llama = zoo.decoders.Llama
    return DecoderModule(backbone=llama(**{**llama.tiny, "vocab_size": 300}))


def test_the_model_is_pushed_when_the_run_ends(hub: Loopback, logged_in: str, tmp_path: Path) -> None:
    model = fresh()
    fit(model, tmp_path, PushToHub(NAME, license="mit"))
    loaded = zoo.load(NAME)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert hub.repositories[NAME].private
    (tmp_path / "card.md").write_bytes(hub.read(NAME, "README.md"))
    card = ModelCard.load(tmp_path / "card.md")
    (result,) = [found for found in card.data.eval_results or [] if found.metric_type == "loss"]
    assert (result.dataset_split, result.task_type) == ("validation", "text-generation")
    assert result.metric_value > 0
    assert "| validation | loss | " in card.text
    assert "- hardware: 1 × cpu" in card.text


def test_a_recipe_publishes_its_run_with_the_recipe(
    hub: Loopback, logged_in: str, command: Command, workplace: Path
) -> None:
    callback = "\n  callbacks:\n  - class_path: zoo.callbacks.PushToHub\n    init_args: {repo_id: me/run}\n"
    recipe = (workplace / "recipe.yaml").read_text().rstrip()
    (workplace / "recipe.yaml").write_text(recipe + callback)
    done = command("fit", "--config", "recipe.yaml")
    assert done.code == 0, done.err
    assert b"zoo.decoders.Llama" in hub.read(NAME, "recipe.yaml")
    assert b"me/run" not in hub.read(NAME, "recipe.yaml")
    for text in (hub.read(NAME, "recipe.yaml"), hub.read(NAME, "README.md"), done.out, done.err):
        assert TOKEN not in (text if isinstance(text, str) else text.decode())
    (workplace / "published.yaml").write_bytes(hub.read(NAME, "recipe.yaml"))
    again = command("check", "published.yaml")
    assert again.code == 0, again.err


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_token_of_the_environment_is_in_no_file_of_a_run_and_in_nothing_it_says(
    hub: Loopback, logged_in: str, command: Command, workplace: Path, is_refused: bool
) -> None:
    """Whether the push lands or its failure is told."""
    hub.faults += [Fault("/commit/", "status", times=99, status=500)] if is_refused else []
    (workplace / "more.yaml").write_text(MORE)
    done = command("fit", "--config", "recipe.yaml", "--config", "more.yaml")
    assert (done.code != 0) is is_refused
    assert TOKEN not in done.out + done.err
    files = {path: path.read_bytes() for path in workplace.rglob("*") if path.is_file()}
    for name in ("config.yaml", "hparams.yaml", "events.out.tfevents.*", "metrics.csv", "*.ckpt"):
        assert any(path.match(name) for path in files), name
    files |= {Path(name): hub.read(NAME, name) for name in hub.repositories[NAME].names()}
    assert is_refused or Path("README.md") in files
    assert [path for path, content in files.items() if TOKEN.encode() in content] == []


MORE = """\
trainer:
  default_root_dir: run
  log_every_n_steps: 1
  logger:
  - {class_path: lightning.pytorch.loggers.TensorBoardLogger, init_args: {save_dir: run}}
  - {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: run}}
  callbacks:
  - class_path: zoo.callbacks.PushToHub
    init_args: {repo_id: me/run}
"""


def test_the_best_model_is_pushed_where_it_is_asked_for(
    hub: Loopback, logged_in: str, tmp_path: Path
) -> None:
    class Diverge(Callback):
        """Spoils the model after its first validation."""

        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 0:
                self.good = pl_module.backbone.norm.weight.detach().clone()  # type: ignore[union-attr, operator]
                torch.nn.init.constant_(pl_module.backbone.norm.weight, -50.0)  # type: ignore[union-attr, arg-type]

    diverge = Diverge()
    fit(fresh(), tmp_path, PushToHub(NAME, best="val/loss"), diverge, max_epochs=2)
    assert torch.equal(zoo.load(NAME).backbone.norm.weight, diverge.good)


def test_a_run_is_pushed_to_a_branch_or_opens_one_pull_request(
    hub: Loopback, logged_in: str, tmp_path: Path
) -> None:
    fit(fresh(), tmp_path, PushToHub(NAME, branch="trial"), max_steps=1)
    repository = hub.repositories[NAME]
    main = repository.head
    assert "model.safetensors" in repository.names("trial")
    assert "model.safetensors" not in repository.names("main")
    proposing = PushToHub(NAME, pull_request=True, every_n_checkpoints=1)
    fit(fresh(), tmp_path, proposing, Save(), max_steps=3)
    assert repository.head == main
    assert [name for name in repository.refs if name.startswith("refs/pr/")] == ["refs/pr/1"]
    assert "model.safetensors" in repository.names("refs/pr/1")


def test_pushes_on_the_way_do_not_hold_training_up(
    hub: Loopback, logged_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_trained, serve = threading.Event(), hub.serve

    class Trained(Callback):
        def on_train_end(self, *_: Any) -> None:
            is_trained.set()

    def waiting(call: Any) -> Any:
        if call.path.endswith("/preupload/main"):
            hub.lock.release()
            assert is_trained.wait(60), "training waits for a push"
            hub.lock.acquire()
        return serve(call)

    monkeypatch.setattr(hub, "serve", waiting)
    fit(fresh(), tmp_path, PushToHub(NAME, every_n_checkpoints=1), Save(), Trained(), max_steps=4)
    assert len(hub.repositories[NAME].commits) == 3  # the Hub's own, the first step's, the last


def test_a_push_on_the_way_that_fails_is_said_and_the_last_one_lands(
    hub: Loopback, logged_in: str, tmp_path: Path
) -> None:
    hub.faults.append(Fault("/commit/", "status", times=4, status=500))
    with pytest.warns(UserWarning, match=r"^a push on the way to me/run failed: nothing was pushed: the Hub"):
        fit(fresh(), tmp_path, PushToHub(NAME, every_n_checkpoints=1), Save(), max_steps=1)
    assert len(hub.repositories[NAME].commits) == 2


def test_who_is_not_logged_in_is_told_before_any_work(hub: Loopback, tmp_path: Path) -> None:
    class Untouched(Callback):
        def on_train_start(self, *_: Any) -> None:
            pytest.fail("it was trained")

    with pytest.raises(CheckpointError, match=r"^nobody is logged in to the Hub"):
        fit(fresh(), tmp_path, PushToHub(NAME), Untouched())


def test_a_last_push_that_fails_names_the_checkpoint_to_push(
    hub: Loopback, logged_in: str, tmp_path: Path
) -> None:
    hub.faults.append(Fault("/commit/", "status", times=99, status=500))
    checkpoint = zoo.callbacks.Checkpoint()
    with pytest.raises(CheckpointError) as caught:
        fit(fresh(), tmp_path, PushToHub(NAME), checkpoint, enable_checkpointing=True)
    assert str(caught.value) == (
        f"nothing was pushed: the Hub answers 500 for `{NAME}`\n"
        f"  zoo push {tmp_path}/checkpoints/last.ckpt {NAME}\n"
        "  push again: what has arrived is not sent twice"
    )
    hub.faults.clear()
    zoo.push(tmp_path / "checkpoints" / "last.ckpt", NAME)
    assert zoo.load(NAME).is_built


def test_a_measure_that_is_not_logged_is_named(hub: Loopback, logged_in: str, tmp_path: Path) -> None:
    with pytest.raises(ZooError) as caught:
        fit(fresh(), tmp_path, PushToHub(NAME, best="val/acc"))
    message, logged = str(caught.value).splitlines()
    assert message == "no measure `val/acc` is logged"
    assert logged.startswith("  logged: ")
    assert "val/loss" in logged


def test_a_trial_run_pushes_nothing(hub: Loopback, tmp_path: Path) -> None:
    fit(fresh(), tmp_path, PushToHub(NAME), fast_dev_run=True)
    assert hub.requests == []


def test_a_number_of_checkpoints_is_at_least_one() -> None:
    with pytest.raises(ZooError, match=r"^`every_n_checkpoints` must be at least 1, got 0$"):
        PushToHub(NAME, every_n_checkpoints=0)
