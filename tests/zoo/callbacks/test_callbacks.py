"""What a run shows and keeps: figures, samples, the report, the last steps."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import rich.progress
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import zoo
from zoo.callbacks import Checkpoint, GradNorm, Progress, Report, Samples, Throughput
from zoo.callbacks.progress import Part
from zoo.errors import GenerationError

Command = Callable[..., Any]


def tiny_module() -> Any:
    family = zoo.decoders.Llama
    return zoo.modules.DecoderModule(backbone=family(**{**family.tiny, "vocab_size": 300}))


def quiet_trainer(folder: Path, **settings: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **settings,
    )


@pytest.fixture
def data(workplace: Path) -> Any:
    return zoo.data.Text(source="text.txt", vocab_size=300, sequence_length=16, batch_size=4)


def test_tensorboard_gets_losses_rate_speed_gradient_samples_and_the_recipe(
    workplace: Path, command: Command
) -> None:
    recipe = (workplace / "recipe.yaml").read_text()
    samples = "  callbacks:\n  - {class_path: zoo.callbacks.Samples, init_args: {prompts: ['the ', 'a ']}}\n"
    (workplace / "recipe.yaml").write_text(recipe + samples)
    done = command(
        "fit",
        "--config",
        "recipe.yaml",
        "--trainer.max_steps=20",
        "--trainer.val_check_interval=10",
        "--data.batch_size=2",
    )
    assert done.code == 0, done.err
    events = EventAccumulator(str(workplace / "runs" / "recipe" / "version_0")).Reload()
    scalars = set(events.Tags()["scalars"])
    assert {
        "train/loss", "val/loss", "val/perplexity", "val/bits_per_byte", "tokens_per_second",
        "tokens_per_second_with_padding", "data_wait", "memory_gib", "grad_norm",
        "lr-AdamW/pg1", "lr-AdamW/pg2",
    } <= scalars  # fmt: skip
    assert len(events.Scalars("val/loss")) == 2
    texts = {tag: events.Tensors(tag) for tag in events.Tags()["tensors"]}
    assert {"recipe/text_summary", "the/text_summary", "a/text_summary"} <= texts.keys()
    assert [event.step for event in texts["the/text_summary"]] == [10, 20]
    (recorded,) = texts["recipe/text_summary"]
    assert "class_path: zoo.decoders.Llama" in recorded.tensor_proto.string_val[0].decode()


def test_the_report_puts_the_model_beside_the_baselines_of_its_own_data(
    data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = tiny_module()
    trainer = quiet_trainer(
        tmp_path, max_steps=4, val_check_interval=4, logger=False, callbacks=[Report("the "), Checkpoint()]
    )
    trainer.fit(module, datamodule=data)
    shown = capsys.readouterr().out
    assert re.search(r"Trained a model of 0\.0 million parameters for 4 steps in 0 min \d+ s\.", shown)
    expected = {**data.baselines(), "this model": float(trainer.callback_metrics["val/bits_per_byte"])}
    rows = dict(re.findall(r"│ (\w[\w -]*?) +│ +([\d.]+) │", shown))
    assert rows == {name: f"{bits:.3f}" for name, bits in expected.items()}
    assert "what it writes" in shown
    (generate,) = re.findall(r"zoo generate (\S+) 'the ' --temperature 0.7", shown)
    assert (Path.cwd() / generate).is_file()


@pytest.mark.parametrize(
    "callback", [Report("the ", max_new_tokens=64), Samples(["the "], max_new_tokens=64)]
)
def test_a_sample_that_is_too_long_is_refused_before_anything_is_trained(
    callback: L.Callback, data: Any, tmp_path: Path
) -> None:
    module = tiny_module()
    trainer = quiet_trainer(tmp_path, max_steps=1, logger=False, callbacks=[callback])
    with pytest.raises(GenerationError, match=r"sees at most 64 tokens; the prompt has \d and 64 new ones"):
        trainer.fit(module, datamodule=data)
    assert trainer.global_step == 0


def test_steps_that_no_validation_followed_are_kept(data: Any, tmp_path: Path) -> None:
    trainer = quiet_trainer(
        tmp_path, max_steps=5, val_check_interval=3, logger=False, callbacks=[Checkpoint()]
    )
    trainer.fit(tiny_module(), datamodule=data)
    found = {path.name: torch.load(path, weights_only=True) for path in tmp_path.rglob("*.ckpt")}
    steps = {name: checkpoint["global_step"] for name, checkpoint in found.items()}
    assert steps == {"last.ckpt": 5, "last.previous.ckpt": 3}


def test_nothing_is_written_twice_where_a_validation_came_last(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = quiet_trainer(
        tmp_path, max_steps=6, val_check_interval=3, logger=False, callbacks=[Checkpoint()]
    )
    saved = []
    write = trainer.strategy.save_checkpoint
    monkeypatch.setattr(
        trainer.strategy,
        "save_checkpoint",
        lambda checkpoint, *rest, **options: (
            saved.append(checkpoint["global_step"]),
            write(checkpoint, *rest, **options),
        ),
    )
    trainer.fit(tiny_module(), datamodule=data)
    assert saved == [3, 6]


def test_the_gradient_is_measured_before_it_is_clipped(data: Any, tmp_path: Path) -> None:
    norms = []

    class Measure(L.Callback):
        def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            squares = [float(parameter.grad.square().sum()) for parameter in pl_module.parameters()]
            norms.append(sum(squares) ** 0.5)

    trainer = quiet_trainer(
        tmp_path,
        max_steps=1,
        limit_val_batches=0,
        gradient_clip_val=1e-3,
        logger=False,
        enable_checkpointing=False,
        callbacks=[Measure(), GradNorm(every_n_steps=1)],
    )
    trainer.fit(tiny_module(), datamodule=data)
    assert float(trainer.callback_metrics["grad_norm"]) == pytest.approx(norms[0], rel=1e-5)
    assert norms[0] > 1e-2


def test_figures_leave_out_what_happens_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps of 1, 3 and 2 s; 1 s of waiting for data after the first, a long validation after the second.
    clock = iter([0.0, 1.0, 2.0, 5.0, 100.0, 102.0, 200.0, 201.0])
    monkeypatch.setattr("zoo.callbacks.throughput.time.perf_counter", lambda: next(clock))
    logged: dict[str, float] = {}
    module = tiny_module()
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    readers = {"rank": 0, "num_replicas": 2}
    strategy = SimpleNamespace(root_device=torch.device("cpu"), distributed_sampler_kwargs=readers)
    trainer: Any = SimpleNamespace(world_size=4, strategy=strategy)  # two divide each model among them
    callback = Throughput(every_n_steps=3)
    batch = {"input_ids": torch.zeros(4, 16), "attention_mask": (torch.arange(16) < 12).long().expand(4, -1)}
    for index in range(3):
        callback.on_train_batch_start(trainer, module, batch, index)
        callback.on_train_batch_end(trainer, module, None, batch, index)
        if index == 1:
            callback.on_validation_start(trainer, module)
            callback.on_validation_end(trainer, module)
    seconds = 1 + 1 + 3 + 2
    memory = logged.pop("memory_gib")
    assert 0.05 < memory < 100
    assert logged == {
        "tokens_per_second": pytest.approx(2 * 3 * 48 / seconds),
        "tokens_per_second_with_padding": pytest.approx(2 * 3 * 64 / seconds),
        "data_wait": pytest.approx(1 / seconds),
    }
    callback.on_save_checkpoint(trainer, module, {})
    callback.on_train_batch_start(trainer, module, batch, 3)
    callback.on_train_batch_end(trainer, module, None, batch, 5)
    assert logged["data_wait"] == 0


def test_the_bar_has_short_names_and_readable_figures() -> None:
    figures = {
        "train/loss": 2.5, "tokens_per_second": 12345.6, "val/loss": 3.0, "train/package/loss": 0.123456,
        "val/package/loss": 0.5, "memory_gib": 0.912, "mfu": 0.384, "data_wait": 0.07,
    }  # fmt: skip
    trainer: Any = SimpleNamespace(loggers=[], progress_bar_metrics=figures)
    assert Progress().get_metrics(trainer, tiny_module()) == {
        "loss": "2.5", "tokens/s": "12,346", "val": "3", "package": "0.1235", "val package": "0.5",
        "GiB": "0.9", "MFU": "38%", "waits": "7%",
    }  # fmt: skip
    figures["data_wait"] = 0.01
    assert "waits" not in Progress().get_metrics(trainer, tiny_module())


def test_the_bar_stands_on_one_line_of_a_small_screen() -> None:
    figures = {"train/loss": 2.34567, "tokens_per_second": 12345.6, "memory_gib": 0.912, "val/loss": 3.00123}
    trainer: Any = SimpleNamespace(loggers=[], progress_bar_metrics=figures, max_epochs=1, current_epoch=0)
    bar = Progress()
    shown = " ".join(f"{name}: {value}" for name, value in bar.get_metrics(trainer, tiny_module()).items())
    with rich.progress.Progress(*bar.configure_columns(trainer), disable=True) as columns:
        columns.add_task("Epoch 0/0", total=99999, completed=99999)
        measured = Console(width=80).render_lines(columns.make_tasks_table(columns.tasks), pad=False)
    assert sum(segment.cell_length for segment in measured[0]) + 1 + len(shown) <= 80


@pytest.mark.parametrize(
    ("epochs", "description", "expected"),
    [
        (1, "Epoch 0/0  ", ""),
        (3, "Epoch 1/2  ", "epoch 2/3"),
        (-1, "Epoch 1/-2 ", "epoch 2"),
        (1, "Validation", "Validation"),
    ],
)
def test_the_bar_tells_the_epoch_where_there_are_several(
    epochs: int, description: str, expected: str
) -> None:
    trainer: Any = SimpleNamespace(max_epochs=epochs, current_epoch=1)
    task: Any = SimpleNamespace(description=description)
    assert Part(trainer).render(task).plain == expected


def test_the_bar_is_gone_before_the_report(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[bool] = []
    bar = Progress()

    class Look(L.Callback):
        def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            stopped.append(bar.progress is not None and not bar.progress.live.is_started)

    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=2,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[Look(), bar],
    )
    trainer.fit(tiny_module(), datamodule=data)
    assert stopped == [True]
