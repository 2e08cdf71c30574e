"""However labels are spread over batches and processes, a step's gradient is that of their mean."""

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

import zoo
from zoo.heads.base import Batch
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]

LABELS = [[9, 1], [3, 0], [0, 0], [2, 8], [5, 5]]
"""Labels of each row of each batch; one batch has none."""


def batches() -> list[Batch]:
    """Batches of two rows of ten tokens, of which so many carry a label."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 96, (len(LABELS), 2, 10), generator=generator)
    numbers = torch.arange(9, -1, -1)
    labels = ids.where(numbers < torch.tensor(LABELS)[..., None], IGNORED)
    return [{"input_ids": one, "labels": other} for one, other in zip(ids, labels, strict=True)]


def module() -> ZooModule:
    torch.manual_seed(0)
    made: ZooModule = zoo.modules.DecoderModule(
        zoo.decoders.Llama(**zoo.decoders.Llama.tiny),
        optimizer=functools.partial(torch.optim.SGD, lr=0.0),
        lr_schedule=zoo.schedules.Constant(),
    )
    return made


class Gradients(Callback):
    """Keeps the gradients of every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.steps.append(
            {name: part.grad.clone() for name, part in pl_module.named_parameters() if part.grad is not None}
        )


def gradients(given: list[Batch], folder: Path, **choices: Any) -> list[dict[str, Tensor]]:
    """Of each step of an epoch."""
    kept = Gradients()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[kept],
        **choices,
    )
    trainer.fit(module(), DataLoader(given, batch_size=None))  # type: ignore[arg-type]
    return kept.steps


def together(given: list[Batch]) -> Batch:
    return {name: torch.cat([batch[name] for batch in given]) for name in given[0]}


def test_accumulated_batches_give_the_gradient_of_one_large_batch(tmp_path: Path) -> None:
    given = batches()
    accumulated = gradients(given, tmp_path, accumulate_grad_batches=4)
    assert len(accumulated) == 2  # the last step takes what is left
    for step, whole in zip(accumulated, (given[:4], given[4:]), strict=True):
        (expected,) = gradients([together(whole)], tmp_path)
        for name, gradient in expected.items():
            assert_close(step[name], gradient, rtol=1e-6, atol=1e-6)


def test_a_first_batch_without_labels_is_no_trouble(tmp_path: Path) -> None:
    given = [batches()[2], batches()[0]]
    (step,) = gradients(given, tmp_path, accumulate_grad_batches=2)
    (expected,) = gradients([together(given)], tmp_path)
    for name, gradient in expected.items():
        assert_close(step[name], gradient, rtol=1e-6, atol=1e-6)


def test_a_step_without_any_label_changes_nothing(tmp_path: Path) -> None:
    (step,) = gradients([batches()[2]] * 2, tmp_path, accumulate_grad_batches=2)
    assert all(not gradient.any() for gradient in step.values())


def test_the_means_of_means_would_differ(tmp_path: Path) -> None:
    """What the tests above would miss, if labels were spread evenly."""
    given = batches()[:2]
    (one,), (other,) = gradients(given[:1], tmp_path), gradients(given[1:], tmp_path)
    (expected,) = gradients([together(given)], tmp_path)
    name = "backbone.norm.weight"
    assert not torch.allclose((one[name] + other[name]) / 2, expected[name], rtol=1e-3)


def test_batches_of_several_heads_count_alike(tmp_path: Path) -> None:
    made = module()
    heads = {"one": zoo.heads.CausalLM(), "other": zoo.heads.CausalLM()}
    several = zoo.modules.DecoderModule(made.spec, heads=heads, optimizer=made.optimizer)
    kept = Gradients()
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, callbacks=[kept], accumulate_grad_batches=2,
    )  # fmt: skip
    given = [{**batch, "head": name} for batch, name in zip(batches()[:2], heads, strict=True)]
    trainer.fit(several, DataLoader(given, batch_size=None))  # type: ignore[arg-type]
    (step,) = kept.steps
    several.zero_grad()
    sum(several(**batch).loss for batch in given).div(2).backward()
    for name, gradient in step.items():
        expected = several.get_parameter(name).grad
        assert expected is not None
        assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    (expected,) = gradients([together(batches()[:4])], tmp_path)
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        [*command, __file__, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, gradient in expected.items():
            assert_close(found[name], gradient, rtol=1e-6, atol=1e-6)


def of_this_process(folder: Path) -> None:
    """Two batches of the four, and the step's gradients as this process has them."""
    import os

    rank = int(os.environ["RANK"])
    kept = Gradients()
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, callbacks=[kept],
        accumulate_grad_batches=2, use_distributed_sampler=False,
    )  # fmt: skip
    mine: Any = batches()[rank:4:2]
    trainer.fit(module(), DataLoader(mine, batch_size=None))
    (step,) = kept.steps
    torch.save(step, folder / f"{rank}.pt")


if __name__ == "__main__":
    of_this_process(Path(sys.argv[1]))
