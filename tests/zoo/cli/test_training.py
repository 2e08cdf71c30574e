"""Each verb of LightningCLI on a tiny recipe, from the command to what it leaves behind."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningCLI
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import zoo
from zoo import registry
from zoo.cli import defaults, layering, training

Command = Callable[..., Any]

RUN = Path("runs", "recipe", "version_0")
CKPT = RUN / "checkpoints" / "last.ckpt"
FIT = ("fit", "--config", "recipe.yaml")


@pytest.fixture
def trained(command: Command, workplace: Path) -> Path:
    """The checkpoint of two steps."""
    outcome = command(*FIT)
    assert (outcome.code, outcome.err) == (0, "")
    return CKPT


def steps(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def checkpoint_of(version: int) -> Path:
    return Path("runs", "recipe", f"version_{version}", "checkpoints", "last.ckpt")


# fit


def test_fit_leaves_a_checkpoint_the_recipe_and_curves(trained: Path) -> None:
    assert steps(trained) == 2
    saved = yaml.safe_load((RUN / "config.yaml").read_text())
    assert saved["data"]["init_args"]["source"] == "text.txt"
    assert saved["model"]["init_args"]["backbone"]["class_path"] == "zoo.decoders.Llama"
    events = EventAccumulator(str(RUN))
    events.Reload()
    assert "recipe/text_summary" in events.Tags()["tensors"]


def test_the_recipe_that_a_run_keeps_runs_again(command: Command, trained: Path) -> None:
    assert command("fit", "--config", str(RUN / "config.yaml")).code == 0


def test_a_run_is_repeatable(command: Command, trained: Path) -> None:
    assert command(*FIT).code == 0
    first, second = (torch.load(checkpoint_of(n), weights_only=True)["state_dict"] for n in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_flags_win_over_the_recipe_and_later_recipes_over_earlier_ones(
    command: Command, workplace: Path
) -> None:
    (workplace / "longer.yaml").write_text("trainer: {max_steps: 5}\ndata: {init_args: {batch_size: 2}}\n")
    flags = ("--config=longer.yaml", "--trainer.max_steps", "3", "--model.backbone.intermediate_size=24")
    assert command(*FIT, *flags).code == 0
    saved = yaml.safe_load(Path("runs/longer/version_0/config.yaml").read_text())
    assert saved["trainer"]["max_steps"] == 3
    assert saved["data"]["init_args"]["batch_size"] == 2
    assert saved["model"]["init_args"]["backbone"]["init_args"]["intermediate_size"] == 24


def test_a_run_of_a_packaged_recipe_bears_its_name() -> None:

    assert layering.run_name([str(registry.recipe_path("quickstart/decoder"))]) == "quickstart-decoder"
    assert layering.run_name(["some/where.yaml", "mine.yaml"]) == "mine"
    assert layering.run_name([]) == "run"


# What every run has gives way to what the recipe says.

CALLBACKS = {
    "its own bar": ("[zoo.callbacks.Progress]", {"Progress": 1}),
    "another bar": ("[lightning.pytorch.callbacks.TQDMProgressBar]", {"TQDMProgressBar": 1, "Progress": 0}),
    "its own checkpoint": (
        "[{class_path: zoo.callbacks.Checkpoint, init_args: {every_n_train_steps: 1}}]",
        {"Checkpoint": 1},
    ),
    "no list": ("{class_path: zoo.callbacks.GradNorm, init_args: {every_n_steps: 1}}", {"GradNorm": 1}),
    "nothing": ("null", {"Progress": 1, "Checkpoint": 1, "GradNorm": 1, "LearningRateMonitor": 1}),
}


def callbacks_of(command: Command, *flags: str) -> dict[str, int]:
    """How many callbacks of each class the Trainer is given."""
    found: list[str] = []

    def fit(trainer: Any, *arguments: Any, **keywords: Any) -> None:
        found.extend(type(callback).__name__ for callback in trainer.callbacks)

    with mock.patch("lightning.pytorch.Trainer.fit", fit):
        assert command(*FIT, "--trainer.enable_progress_bar", "true", *flags).code == 0
    return {name: found.count(name) for name in found}


@pytest.mark.parametrize(("given", "expected"), CALLBACKS.values(), ids=CALLBACKS)
def test_a_recipes_callback_takes_the_place_of_its_like(
    command: Command, workplace: Path, given: str, expected: dict[str, int]
) -> None:
    recipe = workplace / "recipe.yaml"
    recipe.write_text(f"{recipe.read_text()}  callbacks: {given}\n")
    found = callbacks_of(command)
    assert {name: found.get(name, 0) for name in expected} == expected


@pytest.mark.parametrize(
    ("switch", "name"),
    [
        ("enable_progress_bar", "Progress"),
        ("enable_checkpointing", "Checkpoint"),
        ("logger", "LearningRateMonitor"),
    ],
)
def test_what_is_turned_off_is_left_out(command: Command, workplace: Path, switch: str, name: str) -> None:
    assert name in callbacks_of(command)
    assert name not in callbacks_of(command, f"--trainer.{switch}=false")


def test_a_fast_run_for_development_writes_nothing(command: Command, workplace: Path) -> None:
    before = sorted(workplace.rglob("*"))
    assert command(*FIT, "--trainer.fast_dev_run", "true").code == 0
    assert sorted(workplace.rglob("*")) == before


def test_a_bar_is_shown_where_it_is_asked_for(command: Command, workplace: Path) -> None:
    outcome = command(*FIT, "--trainer.enable_progress_bar", "true")
    assert "loss" in outcome.out
    assert any(
        issubclass(type(callback), ProgressBar) for callback in defaults.trainer_defaults("x")["callbacks"]
    )


# validate, test, predict


@pytest.mark.parametrize(("verb", "part"), [("validate", "val"), ("test", "test")])
def test_evaluation_reads_a_checkpoint(command: Command, trained: Path, verb: str, part: str) -> None:
    outcome = command(verb, "--config", "recipe.yaml", "--ckpt_path", str(trained))
    assert (outcome.code, outcome.err) == (0, "")
    for measure in ("loss", "perplexity", "bits_per_byte"):
        assert f"{part}/{measure}" in outcome.out
    written = sorted(Path("runs").rglob("metrics.json"))
    assert len(written) == (verb == "test")
    for path in written:
        assert f"measures: {path}" in outcome.out
        measured = json.loads(path.read_text())
        assert measured["test/perplexity"] == pytest.approx(math.exp(measured["test/loss"]), rel=1e-4)


def test_predict_writes_a_line_for_each_held_out_document(command: Command, workplace: Path) -> None:
    rows = [{"text": f"the cat {number} sat on the mat and ran to a red dog. " * 3} for number in range(60)]
    (workplace / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = ("--data.source", "rows.jsonl", "--data.validation_fraction", "0.3")
    assert command(*FIT, *source).code == 0
    outcome = command("predict", "--config", "recipe.yaml", *source, "--ckpt_path", str(CKPT))
    assert outcome.code == 0
    path = Path(outcome.out.strip().splitlines()[-1].removeprefix("predictions: "))
    assert path.name == "predictions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert 5 < len(lines) < 40
    assert all(line["prompt"].startswith("the cat ") and line["prediction"] for line in lines)
    assert len({line["prompt"] for line in lines}) == len(lines)


# Going on from a checkpoint


def test_a_resumed_run_goes_on_from_its_step(command: Command, trained: Path) -> None:
    assert command(*FIT, "--ckpt_path", str(trained), "--trainer.max_steps", "5").code == 0
    assert steps(checkpoint_of(1)) == 5
    before, after = (torch.load(checkpoint_of(n), weights_only=True) for n in (0, 1))
    assert before["optimizer_states"][0]["state"][0]["step"] == 2
    assert after["optimizer_states"][0]["state"][0]["step"] == 5  # not begun anew


def test_the_recipe_and_flags_win_over_a_checkpoints_hyperparameters(command: Command, trained: Path) -> None:
    flags = ("--model.backbone.attention_dropout", "0.25", "--model.optimizer.lr", "0.5")
    resumed = ("--ckpt_path", str(trained), "--trainer.max_steps", "3")
    assert command(*FIT, *resumed, *flags).code == 0
    saved = torch.load(checkpoint_of(1), weights_only=True)["hyper_parameters"]
    assert saved["backbone"]["init_args"]["attention_dropout"] == 0.25
    assert saved["optimizer"]["init_args"]["lr"] == 0.5


def test_last_is_the_newest_runs_checkpoint(command: Command, trained: Path) -> None:
    for version, end in ((1, 4), (2, 6)):
        outcome = command(*FIT, "--ckpt_path", "last", "--trainer.max_steps", str(end))
        assert (outcome.code, outcome.err) == (0, "")
        assert f"goes on from {checkpoint_of(version - 1)}" in outcome.out
        saved = torch.load(checkpoint_of(version), weights_only=True)
        assert saved["optimizer_states"][0]["state"][0]["step"] == end
    assert command("validate", "--config", "recipe.yaml", "--ckpt_path", "last").code == 0


def test_last_of_no_run_is_refused(command: Command, workplace: Path) -> None:
    outcome = command(*FIT, "--ckpt_path", "last")
    assert outcome.err == (
        "zoo: no run of this recipe has left a checkpoint under runs/recipe\n  at    ckpt_path\n"
        "  in    the command line: --ckpt_path\n  start it without --ckpt_path last\n"
    )
    assert outcome.code == 2
    assert not Path("runs").exists()


def test_last_that_is_broken_is_named_and_the_one_before_it_offered(command: Command, trained: Path) -> None:
    assert (
        command(
            *FIT, "--ckpt_path", "last", "--trainer.max_steps", "4", "--trainer.val_check_interval=1"
        ).code
        == 0
    )
    broken = checkpoint_of(1)
    broken.write_bytes(broken.read_bytes()[:-100])
    outcome = command(*FIT, "--ckpt_path", "last", "--trainer.max_steps", "5")
    assert outcome.code == 2
    assert outcome.err.startswith(f"zoo: {broken} is no checkpoint, or is cut off")
    previous = broken.with_name("last.previous.ckpt")
    assert outcome.err.endswith(f"  the one before it: --ckpt_path {previous}\n")
    assert command(*FIT, "--ckpt_path", str(previous), "--trainer.max_steps", "5").code == 0


def test_lightning_still_lays_a_checkpoint_over_recipe_and_flags(command: Command, trained: Path) -> None:
    """Where this fails, Lightning no longer does what `ZooCLI._parse_ckpt_path` is overridden against."""
    laid_over = []

    def parse(cli: LightningCLI) -> None:
        def parse_object(given: Any, base: Any) -> Any:
            laid_over.append(given["fit"]["model"]["optimizer"]["init_args"]["lr"])
            return base

        with mock.patch.object(cli.parser, "parse_object", parse_object):
            LightningCLI._parse_ckpt_path(cli)
        raise SystemExit(0)

    flags = ("--ckpt_path", str(trained), "--model.optimizer.lr", "0.5")
    with mock.patch.object(training.ZooCLI, "_parse_ckpt_path", parse):
        command(*FIT, *flags)
    assert laid_over == [1e-3]  # not the flag's


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--model.backbone.hidden_size", "32"),
            f"`backbone.embedding.weight` is [300, 16] in {CKPT} and [300, 32] in the recipe's model",
        ),
        (
            ("--model.backbone.mlp_bias", "true"),
            f"the recipe's model has the tensor `backbone.blocks.0.feedforward.gate.bias`, {CKPT} has not",
        ),
    ],
)
def test_a_checkpoint_of_other_sizes_is_refused_before_any_work(
    command: Command, trained: Path, flags: tuple[str, ...], message: str
) -> None:
    before = sorted(Path.cwd().rglob("*"))
    outcome = command(*FIT, "--ckpt_path", str(trained), *flags)
    assert outcome.err == (
        f"zoo: {message}\n  at    ckpt_path\n  in    the command line: --ckpt_path\n"
        "  use the sizes that it was trained with\n"
    )
    assert outcome.code == 2
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_checkpoint_cut_in_half_is_refused(command: Command, trained: Path) -> None:
    content = trained.read_bytes()
    Path("half.ckpt").write_bytes(content[: len(content) // 2])
    outcome = command(*FIT, "--ckpt_path", "half.ckpt")
    assert outcome.code == 2
    assert outcome.err.startswith("zoo: half.ckpt is no checkpoint, or is cut off: ")


def test_a_metric_that_is_not_there_is_no_traceback(command: Command, workplace: Path) -> None:
    recipe = workplace / "recipe.yaml"
    stopping = (
        "  callbacks: [{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: x}}]"
    )
    recipe.write_text(f"{recipe.read_text()}{stopping}\n")
    outcome = command(*FIT)
    assert outcome.code == 2
    message, at, source = outcome.err.splitlines()
    assert message.startswith(
        "zoo: the Trainer refuses: Early stopping conditioned on metric `x` which is not"
    )
    assert (at, source) == ("  at    trainer", "  in    recipe.yaml:23")


def test_torchs_profiler_is_one_flag(command: Command, workplace: Path) -> None:
    outcome = command(*FIT, "--trainer.max_steps", "4", "--trainer.profiler", "pytorch")
    assert outcome.code == 0, outcome.err
    (trace,) = (workplace / RUN).glob("*.trace.json")
    assert "aten::linear" in trace.read_text()


KILL_WORKER = """
import multiprocessing, time
from lightning.pytorch.callbacks import Callback

class KillWorker(Callback):
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 1:
            multiprocessing.active_children()[0].kill()
            time.sleep(20)  # torch is told amid the step
"""


def test_a_worker_that_dies_amid_a_step_is_one_sentence(
    command: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "kill_worker.py").write_text(KILL_WORKER)
    monkeypatch.syspath_prepend(workplace)
    outcome = command(*FIT, "--data.num_workers", "1", "--trainer.callbacks+=kill_worker.KillWorker")
    assert outcome.code == 2
    told, *more = outcome.err.splitlines()
    assert re.fullmatch(
        r"zoo: a process that makes batches died: DataLoader worker .* signal: Killed\.", told
    )
    assert more == [
        "  at    data",
        "  in    recipe.yaml:16",
        "  too little memory is the commonest cause: fewer data.num_workers need less",
    ]


# A process of its own

PATIENCE = 300
"""Seconds until a process counts as stuck, on a machine that has much else to do."""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(workplace: Path) -> Iterator[Start]:
    """Starts the `zoo` command in the background; what still runs after the test is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        code = "import sys; from zoo.cli import main; sys.argv[0] = 'zoo'; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=workplace,
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_ctrl_c_leaves_a_loadable_checkpoint_and_says_so(workplace: Path, start: Start) -> None:
    flags = ("--trainer.max_steps", "100000", "--trainer.log_every_n_steps", "1")
    process = start(*FIT, *flags)
    deadline = time.monotonic() + PATIENCE
    while not _has_trained(workplace / RUN):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert "zoo: interrupted at step " in error
    assert (
        f"everything so far is in {workplace / CKPT}" in error or f"everything so far is in {CKPT}" in error
    )
    told = int(error.partition("zoo: interrupted at step ")[2].partition(";")[0])
    assert steps(workplace / CKPT) == told > 0
    assert zoo.load(workplace / CKPT).generate("the cat", max_new_tokens=2)


def _has_trained(run: Path) -> bool:
    if not list(run.glob("events*")):
        return False
    events = EventAccumulator(str(run))
    events.Reload()
    return "train/loss" in events.Tags()["scalars"]


def test_a_mistake_in_a_process_of_its_own_is_one_screen(workplace: Path, start: Start) -> None:
    process = start(*FIT, "--data.batch_size", "0")
    out, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert out == ""
    assert error.endswith(
        "zoo: `batch_size` must be at least 1, got 0\n  at    data.batch_size\n"
        "  in    the command line: --data.batch_size\n"
    )
    assert len(error.splitlines()) < 6
    assert "Traceback" not in error
    assert sorted(path.name for path in workplace.iterdir()) == ["recipe.yaml", "text.txt"]
