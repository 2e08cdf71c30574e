"""A tokenizer's files, as the Hub's repositories hold them."""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tokenizers

from zoo.errors import CheckpointError, ZooError
from zoo.tokenizer import sentence_piece, sides, special_tokens, vocabularies
from zoo.untrusted import fits, require_size, short

FILE, CONFIG_FILE, TEMPLATE_FILE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
TEMPLATES = "additional_chat_templates/*.jinja"
SPECIAL_FILE, ADDED_FILE = "special_tokens_map.json", "added_tokens.json"

FILES = (
    FILE,
    CONFIG_FILE,
    TEMPLATE_FILE,
    TEMPLATES,
    SPECIAL_FILE,
    ADDED_FILE,
    vocabularies.WORDPIECE_FILE,
    *(name for pair in vocabularies.BPE_FILES for name in pair),
    *sentence_piece.FILES,
    *sides.FILES,
)
"""Every file that a tokenizer is read from, some as a pattern."""

LARGEST_BYTES = 2**28
"""The largest that are known have a sixth of it."""

_TYPES: dict[str, Any] = {
    "model_max_length": int | float | None,
    "padding_side": Literal["left", "right"],
    "truncation_side": Literal["left", "right"],
    "pad_token_type_id": int,
    "model_input_names": list[str] | None,
    "chat_template": str | list[dict[str, Any]] | None,
    "added_tokens_decoder": dict[str, Any],
}


class Read(NamedTuple):
    """What the files of a folder say."""

    backend: tokenizers.Tokenizer
    config: dict[str, Any]
    chat_template: str | None
    target: tokenizers.Tokenizer | None
    """Reads what is to be written, where another does."""
    files: dict[str, bytes]
    """Those that no tokenizer.json can stand for."""


def read(folder: Path) -> Read | None:
    """What the files of a folder say; None where it has no tokenizer.

    Raises:
        CheckpointError: A file cannot be read, or needs a package that is not installed.
    """
    for path in (path for name in FILES for path in folder.glob(name)):
        require_size(path, LARGEST_BYTES)
    try:
        config = read_config(folder)
        _require_types(config, folder)
        template = _read_template(folder, config)
        if not (folder / FILE).is_file() and (both := sides.read(folder, config)) is not None:
            paths = (folder / name for name in sides.FILES)
            kept = {path.name: path.read_bytes() for path in paths if path.is_file()}
            return Read(both[0], config, template, both[1], kept)
        backend = _read_backend(folder, config)
        return None if backend is None else Read(backend, config, template, None, {})
    except ZooError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"the tokenizer in {folder} cannot be read: {error}") from error


def _require_types(config: dict[str, Any], folder: Path) -> None:
    """Refuses what later work would stumble over."""
    for name, hint in _TYPES.items():
        if name in config and not fits(config[name], hint):
            raise CheckpointError(
                f"`{name}` in {folder / CONFIG_FILE} must be {hint}, got {short(config[name])}"
            )


def read_config(folder: Path) -> dict[str, Any]:
    """What tokenizer_config.json says and, in old checkpoints, special_tokens_map.json."""
    config = _read_object(folder / CONFIG_FILE)
    # As in transformers: who writes this key writes all that the other file says.
    return config if "added_tokens_decoder" in config else {**config, **_read_object(folder / SPECIAL_FILE)}


def _read_object(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _read_template(folder: Path, config: dict[str, Any]) -> str | None:
    """What chat_template.jinja says; several go to the configuration, where older files have them."""
    path = folder / TEMPLATE_FILE
    text = path.read_text("utf-8") if path.is_file() else None
    more = {path.stem: path.read_text("utf-8") for path in sorted(folder.glob(TEMPLATES))}
    if not more:
        return text
    templates = more if text is None else {"default": text, **more}
    config["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()]
    return None


def _read_backend(folder: Path, config: dict[str, Any]) -> tokenizers.Tokenizer | None:
    if (folder / FILE).is_file():
        backend = tokenizers.Tokenizer.from_file(str(folder / FILE))
        _move_batching(backend, config)
        return backend
    converted = sentence_piece.read(folder, config) or vocabularies.read(folder, config)
    if converted is not None:
        _add_tokens(converted, config, _read_object(folder / ADDED_FILE))
        config.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    return converted


def _move_batching(backend: tokenizers.Tokenizer, config: dict[str, Any]) -> None:
    """Moves from backend to configuration what matters to batches alone."""
    if backend.padding is not None:
        config.setdefault("padding_side", backend.padding["direction"])
        config.setdefault("pad_token", backend.padding["pad_token"])
        backend.no_padding()
    if backend.truncation is not None:
        config.setdefault("truncation_side", backend.truncation["direction"])
        backend.no_truncation()


def _add_tokens(backend: tokenizers.Tokenizer, config: dict[str, Any], added: dict[str, int]) -> None:
    """Makes tokens that the vocabulary lacks, and those that texts may spell, known as they stand."""
    described = {int(number): token for number, token in config.get("added_tokens_decoder", {}).items()}
    described |= {number: {"content": token, "special": False} for token, number in added.items()}
    named = special_tokens.tokens(config)
    for number, token in sorted(described.items()):
        backend.add_tokens([special_tokens.added({**token, **named.pop(token["content"], {})})])
        found = backend.token_to_id(token["content"])
        if found != number:
            raise CheckpointError(
                f"the added token {token['content']} should have the id {number}, but comes out as {found}"
            )
    vocab = backend.get_vocab(with_added_tokens=True)
    backend.add_tokens([special_tokens.added(token) for text, token in named.items() if text in vocab])
