"""A loss that is no number ends a run before its weights are none."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import zoo
from zoo.callbacks import BadNumbers, Checkpoint
from zoo.errors import TrainingError

pytestmark = pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")


def trained(
    folder: Path, callback: Any, *, bad: set[int], in_loss: bool = True, **settings: Any
) -> L.Trainer:
    """A run whose loss, or gradient, is not finite at some batches."""
    family = zoo.decoders.Llama

    class Module(zoo.modules.DecoderModule):  # type: ignore[misc, name-defined]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            if batch_idx in bad and in_loss:
                return loss * float("nan")
            if batch_idx in bad:
                loss.register_hook(lambda gradient: gradient * float("inf"))
            return loss

    torch.manual_seed(0)
    module = Module(backbone=family(**{**family.tiny, "vocab_size": 300}))
    data = zoo.data.Text(source="text.txt", vocab_size=300, sequence_length=16, batch_size=4)
    trainer = L.Trainer(
        accelerator="cpu", default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False,
        logger=False, limit_val_batches=0, callbacks=[callback, Checkpoint(1)],
        **{"max_steps": 6, **settings},
    )  # fmt: skip
    try:
        trainer.fit(module, datamodule=data)
    finally:
        assert all(parameter.isfinite().all() for parameter in module.parameters())
    return trainer


@pytest.mark.parametrize(
    ("in_loss", "what"), [(True, "the loss is nan"), (False, "the gradient's norm is (inf|nan)")]
)
def test_a_run_ends_within_the_step_and_names_batch_and_checkpoint(
    workplace: Path, in_loss: bool, what: str
) -> None:
    with pytest.raises(TrainingError, match=f"^{what} at step 3") as error:
        trained(workplace, BadNumbers(), bad={3}, in_loss=in_loss)
    assert (error.value.source or "").startswith("batch 3 of epoch 0, rows ")
    path = workplace / "checkpoints" / "last.ckpt"
    assert error.value.hint == (
        f"the last good checkpoint: {path}\n"
        "lower the learning rate, clip gradients, or leave such steps out: zoo.callbacks.BadNumbers"
    )
    assert torch.load(path, weights_only=True)["global_step"] == 3


def test_an_accumulated_step_names_the_batch_whose_loss_it_was(workplace: Path) -> None:
    with pytest.raises(TrainingError) as error:
        trained(workplace, BadNumbers(), bad={4}, accumulate_grad_batches=3)
    assert (error.value.source or "").startswith("batch 4 of epoch 0, rows ")
    assert "no checkpoint" not in (error.value.hint or "")


def test_so_many_steps_are_left_out_and_counted(workplace: Path) -> None:
    callback = BadNumbers(skip=2)
    with pytest.warns(
        UserWarning, match=r"the loss is nan at step \d: the step is left out \(\d of at most 2\)"
    ):
        trainer = trained(workplace, callback, bad={1, 3})
    assert (trainer.global_step, callback.skipped) == (6, 2)
    saved = torch.load(workplace / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["callbacks"]["BadNumbers"] == {"skipped": 2}
    with pytest.warns(UserWarning, match="left out"), pytest.raises(TrainingError, match="at step 5"):
        trained(workplace, BadNumbers(skip=2), bad={1, 3, 5})
