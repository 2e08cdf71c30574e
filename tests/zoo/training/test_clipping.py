"""The gradient's norm is computed for those who ask, and once."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest

import zoo
from zoo.callbacks import BadNumbers, GradNorm
from zoo.training import clipping

pytestmark = pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")


@pytest.mark.parametrize(
    ("callbacks", "limit", "expected"),
    [
        ([BadNumbers(), GradNorm(1)], 1.0, 8),
        ([BadNumbers()], None, 8),
        ([], 1.0, 8),
        ([GradNorm(4)], None, 2),
        ([], None, 0),
    ],
)
def test_the_norm_is_computed_once_a_step_where_it_is_asked_for(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, callbacks: list[Any], limit: float | None, expected: int
) -> None:
    computed, total_norm = [], clipping.total_norm
    monkeypatch.setattr(clipping, "total_norm", lambda given: computed.append(1) or total_norm(given))
    family = zoo.decoders.Llama
    module = zoo.modules.DecoderModule(backbone=family(**{**family.tiny, "vocab_size": 300}))
    L.Trainer(
        accelerator="cpu", default_root_dir=workplace, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, max_steps=8,
        gradient_clip_val=limit, callbacks=callbacks,
    ).fit(
        module,
        datamodule=zoo.data.Text(source="text.txt", vocab_size=300, sequence_length=16, batch_size=4),
    )  # fmt: skip
    assert len(computed) == expected
