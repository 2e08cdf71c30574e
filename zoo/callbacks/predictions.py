"""What `zoo predict` found, as a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter

from zoo.heads.base import Batch


class Predictions(BasePredictionWriter):
    """Writes each prediction beside its prompt to predictions.jsonl in the run's folder."""

    def __init__(self) -> None:
        super().__init__("batch")

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Appends one batch's lines."""
        with self._path(trainer).open("w" if batch_idx == 0 else "a", encoding="utf-8") as file:
            head = {"head": batch["head"]} if "head" in batch else {}
            for prompt, said in zip(batch["prompts"], prediction, strict=True):
                line = {**head, "prompt": prompt, "prediction": said}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says where they are."""
        print(f"predictions: {self._path(trainer)}")

    def _path(self, trainer: L.Trainer) -> Path:
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"predictions{f'-{trainer.global_rank}' if trainer.world_size > 1 else ''}.jsonl"
