"""A tokenizer's files, as the Hub's repositories hold them."""

import json
from pathlib import Path
from typing import Any

import tokenizers

from zoo.errors import CheckpointError

FILE, CONFIG_FILE, TEMPLATE_FILE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
SPECIAL_FILE = "special_tokens_map.json"


def read(folder: Path) -> tuple[tokenizers.Tokenizer, dict[str, Any], str | None] | None:
    """Backend, configuration and chat template; None where a folder has no tokenizer.

    Raises:
        CheckpointError: A file cannot be read.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        config = read_config(folder)
        template = folder / TEMPLATE_FILE
        backend = tokenizers.Tokenizer.from_file(str(folder / FILE))
        _move_batching(backend, config)
        return backend, config, template.read_text("utf-8") if template.is_file() else None
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"the tokenizer in {folder} cannot be read: {error}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """What tokenizer_config.json says and, in old checkpoints, special_tokens_map.json."""
    config = _read_object(folder / CONFIG_FILE)
    # As in transformers: what writes this key writes all that the other file says.
    return config if "added_tokens_decoder" in config else {**config, **_read_object(folder / SPECIAL_FILE)}


def _read_object(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _move_batching(backend: tokenizers.Tokenizer, config: dict[str, Any]) -> None:
    """Moves from backend to configuration what matters to batches alone."""
    if backend.padding is not None:
        config.setdefault("padding_side", backend.padding["direction"])
        config.setdefault("pad_token", backend.padding["pad_token"])
        backend.no_padding()
    if backend.truncation is not None:
        config.setdefault("truncation_side", backend.truncation["direction"])
        backend.no_truncation()
