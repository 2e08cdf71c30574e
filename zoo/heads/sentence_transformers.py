"""What sentence-transformers keeps beside a backbone: modules.json, and how hidden states are pooled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import CheckpointError

MODULES_FILE, POOLING_FOLDER, NORMALIZE_FOLDER = "modules.json", "1_Pooling", "2_Normalize"
POOLING_FILE = f"{POOLING_FOLDER}/config.json"
FILES = (MODULES_FILE, POOLING_FILE)
ITS_OWN = ("config_sentence_transformers.json", "sentence_bert_config.json")
"""What it alone reads: prompts, lengths."""

_MODES = {
    "mean": "pooling_mode_mean_tokens",
    "first": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
}
_OTHER_MODES = (
    "pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens",
)  # fmt: skip
_KINDS = ("Transformer", "Pooling", "Normalize")


def read(folder: Path) -> dict[str, Any] | None:
    """Pooling and normalisation of a model's folder; None where it is no model of sentences.

    Raises:
        CheckpointError: The files ask for what the zoo does not do, or cannot be read.
    """
    path = folder / MODULES_FILE
    if not path.is_file():
        return None
    modules = _json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{path} holds no list of modules")
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    unknown = [kind for kind in kinds if kind not in _KINDS]
    if unknown:
        raise CheckpointError(f"{path} names a module `{unknown[0]}`, known are: {', '.join(_KINDS)}")
    return {"pooling": _pooling(folder / POOLING_FILE), "normalize": "Normalize" in kinds}


def _pooling(path: Path) -> str:
    if not path.is_file():  # as sentence-transformers takes it
        return "mean"
    config = _json(path)
    asked = [
        mode for mode in (*_MODES.values(), *_OTHER_MODES) if isinstance(config, dict) and config.get(mode)
    ]
    known = [pooling for pooling, mode in _MODES.items() if asked == [mode]]
    if not known:
        named = " and ".join(asked) or "no pooling"
        raise CheckpointError(
            f"{path} asks for {named}, which the zoo does not do",
            hint=f"one of: {', '.join(_MODES.values())}",
        )
    return known[0]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def files(pooling: str, hidden_size: int, *, normalize: bool) -> Mapping[str, Any]:
    """The files that say so, by their places in a model's folder."""
    steps = [("", "Transformer"), (POOLING_FOLDER, "Pooling"), (NORMALIZE_FOLDER, "Normalize")]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(steps if normalize else steps[:2])
    ]
    modes = {mode: name == pooling for name, mode in _MODES.items()}
    return {
        MODULES_FILE: modules,
        POOLING_FILE: {
            "word_embedding_dimension": hidden_size,
            **modes,
            **dict.fromkeys(_OTHER_MODES, False),
        },
    }
