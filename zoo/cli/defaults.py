"""What every run has unless its recipe says otherwise, and what is left unsaid."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ProgressBar

from zoo.callbacks.bad_numbers import BadNumbers
from zoo.callbacks.checkpoint import Checkpoint
from zoo.callbacks.grad_norm import GradNorm
from zoo.callbacks.metrics_file import MetricsFile
from zoo.callbacks.predictions import Predictions
from zoo.callbacks.progress import Progress
from zoo.callbacks.throughput import Throughput


def trainer_defaults(run_name: str) -> dict[str, Any]:
    """What every run has, unless its recipe says otherwise: a bar, TensorBoard, checkpoints."""
    return {
        "logger": {
            "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
            "init_args": {"save_dir": "runs", "name": run_name},
        },
        "log_every_n_steps": 20,
        "enable_model_summary": False,
        "callbacks": [
            Progress(),
            LearningRateMonitor(),
            Checkpoint(),
            Throughput(),
            GradNorm(),
            BadNumbers(),
            Predictions(),
            MetricsFile(),
        ],
    }


def is_wanted(callback: Callback, trainer: Mapping[str, Any]) -> bool:
    """Whether a recipe leaves room for a default callback: it neither has its like nor turns it off."""
    given = trainer["callbacks"] or []
    kinds = (type(callback), ProgressBar) if isinstance(callback, ProgressBar) else type(callback)
    if any(isinstance(other, kinds) for other in (given if isinstance(given, list) else [given])):
        return False
    switches = {
        ProgressBar: "enable_progress_bar",
        Checkpoint: "enable_checkpointing",
        LearningRateMonitor: "logger",
    }
    return not any(
        isinstance(callback, kind) and trainer[switch] is False for kind, switch in switches.items()
    )


_NOISE = (
    "💡",
    "TPU available",
    "HPU available",
    "GPU available: False",
    "Seed set to",
    "to estimate number of stepping batches",
    "`Trainer.fit` stopped",
    "Automatic Mixed Precision",
    "torchvision is not installed",
)

_SPEAKERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "torch.onnx._internal.exporter._registration",
)
"""The loggers that say so."""

_HARMLESS = (
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*exists and is not empty.*",
    ".*is not supported by the model summary.*",
    ".*smaller than the logging interval.*",
    ".*infer the batch indices.*",  # a prediction stands beside its prompt
)


def quiet() -> None:
    """Leaves out what Lightning and torch say of hardware that is not there and choices that are meant."""
    for name in _SPEAKERS:
        logging.getLogger(name).addFilter(
            lambda record: not any(noise in record.getMessage() for noise in _NOISE)
        )
    for pattern in _HARMLESS:
        warnings.filterwarnings("ignore", pattern)
