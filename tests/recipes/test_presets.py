"""Each preset trains, where there are the GPUs that it is for."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo import registry

GPUS = {
    "one-gpu-bf16": 1,
    "one-gpu-fp16": 1,
    "one-gpu-float8": 1,
    "ddp-bf16": 2,
    "fsdp-bf16": 2,
    "tp-bf16": 2,
    "fsdp-tp-bf16": 4,
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", GPUS)
def test_a_preset_trains_a_tiny_model(name: str, zoo: Callable[..., Any], workplace: Path) -> None:
    if torch.cuda.device_count() < GPUS[name]:
        pytest.skip(f"{GPUS[name]} GPUs are needed")
    if name == "one-gpu-float8":
        pytest.importorskip("torchao", reason="the extra float8 is needed")
    done = zoo("fit", "--config", "recipe.yaml", "--config", f"presets/{name}", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert list(workplace.rglob("last.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp-bf16", "fsdp-bf16", "tp-bf16", "fsdp-tp-bf16"])
def test_a_preset_trains_on_two_processes_without_a_gpu(
    name: str, command: Callable[..., Any], workplace: Path
) -> None:
    flags = ("--config", "recipe.yaml", "--config", f"presets/{name}", "--trainer.devices", "2")
    samples = ("--trainer.callbacks+=zoo.callbacks.Samples", "--trainer.callbacks.prompts=[the]")
    # Lightning starts the other process as this one was started.
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "fit", *flags, "--trainer.accelerator", "cpu", *samples],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (checkpoint,) = workplace.rglob("last.ckpt")
    assert command("export", str(checkpoint), "exported").code == 0
    assert (workplace / "exported" / "model.safetensors").is_file()


def test_every_preset_for_a_gpu_is_tried_on_one() -> None:
    known = {name.removeprefix("presets/") for name in registry.recipes() if name.startswith("presets/")}
    assert GPUS.keys() | {"cpu", "multi-node"} == known
