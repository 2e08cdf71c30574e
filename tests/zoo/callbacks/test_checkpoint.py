"""Processes save together, or each would wait for the others."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

import zoo
from zoo.callbacks import Checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")


class BesideAnother(SingleDeviceStrategy):
    """A process beside another, whose answer to every question is known."""

    def __init__(self, other: bool) -> None:
        super().__init__(device="cpu")
        self.other = other

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """What both say, or one of them."""
        return (decision and self.other) if all else (decision or self.other)


def steps_saved(folder: Path, other_is_late: bool, every_minutes: float) -> list[int]:
    """The steps after which a run of three saves."""
    family = zoo.decoders.Llama
    module = zoo.modules.DecoderModule(backbone=family(**{**family.tiny, "vocab_size": 300}))
    data = zoo.data.Text(source="text.txt", vocab_size=300, sequence_length=16, batch_size=4)
    saved: list[int] = []

    class Trainer(L.Trainer):
        def save_checkpoint(self, *arguments: Any, **choices: Any) -> None:
            saved.append(self.global_step)

    class Quiet(Checkpoint):
        """One that no signal reaches."""

        def _end_if_asked(self, trainer: L.Trainer) -> None: ...

    torch.manual_seed(0)
    Trainer(
        accelerator="cpu", strategy=BesideAnother(other_is_late), default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, max_steps=3,
        callbacks=[Quiet(every_n_train_steps=1000, every_minutes=every_minutes)],
    ).fit(module, datamodule=data)  # fmt: skip
    return saved


@pytest.mark.parametrize(("other_is_late", "every_minutes"), [(True, 1e6), (False, 0.0)])
def test_where_clocks_differ_one_that_is_late_is_enough(
    workplace: Path, other_is_late: bool, every_minutes: float
) -> None:
    assert steps_saved(workplace, other_is_late, every_minutes) == [1, 2, 3]


def test_where_no_clock_is_late_the_end_alone_is_saved(workplace: Path) -> None:
    assert steps_saved(workplace, False, 1e6) == [3]
