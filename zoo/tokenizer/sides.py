"""Tokenizers with a SentencePiece model for each side, what is read and what is written.

Their ids are those of a list, vocab.json: of both models' pieces, or, where another list numbers what is
written, of one side's. Of the other side's pieces a model reads single characters that it has none for.
Where several of them follow each other, transformers makes one unknown token of them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from zoo.errors import CheckpointError
from zoo.tokenizer import backends, sentence_piece, special_tokens

READ, WRITTEN = ("source.spm", "vocab.json"), ("target.spm", "target_vocab.json")
"""Of each side, its model and its list."""
FILES = (*READ, *WRITTEN)

_RARELY, _NEVER = -1e4, -1e9
"""Scores of what is not the model's: a character, a longer piece. Its own spell all that they can."""
_CONTROL, _UNUSED = 3, 5


def read(folder: Path, config: dict[str, Any]) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer] | None:
    """What reads, and what reads texts that are to be written; None where a folder has no such files.

    Raises:
        CheckpointError: One of them is missing, or is not what it should be.
    """
    if not (folder / READ[0]).is_file():
        return None
    numbers = WRITTEN[1] if config.get("separate_vocabs") else READ[1]
    for name in (READ[1], WRITTEN[0], numbers):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has a {READ[0]}, but no {name}")
    return _read(folder, *READ, config), _read(folder, WRITTEN[0], numbers, config)


def _read(folder: Path, model_file: str, list_file: str, config: dict[str, Any]) -> tokenizers.Tokenizer:
    ids: dict[str, int] = json.loads((folder / list_file).read_text("utf-8"))
    model = sentence_piece.parse(folder / model_file)
    if sorted(ids.values()) != list(range(len(ids))) or model.trainer_spec.unk_piece not in ids:
        raise CheckpointError(f"{folder / list_file} does not number a vocabulary from 0 on")
    _number(model, ids)
    backend = sentence_piece.converted(model, config)
    backends.frame_each(backend, None, special_tokens.named(config)["eos_token"])
    codes = [token for token in ids if token.startswith(">>") and token.endswith("<<")]
    backend.add_tokens([tokenizers.AddedToken(code, normalized=False) for code in codes])
    return backend


def _number(model: Any, ids: Mapping[str, int]) -> None:
    """Gives a model the pieces of a list, in its order."""
    own = {piece.piece: piece for piece in model.pieces}
    padding = model.trainer_spec.pad_piece
    own.setdefault(padding, model.SentencePiece(piece=padding, type=_CONTROL))

    def piece(token: str) -> Any:
        score = _RARELY if len(token) == 1 else _NEVER
        return own.get(token) or model.SentencePiece(piece=token, score=score, type=_UNUSED)

    pieces = [piece(token) for token in sorted(ids, key=lambda token: ids[token])]
    del model.pieces[:]
    model.pieces.extend(pieces)
    for name in ("bos", "eos", "unk", "pad"):
        token: str = getattr(model.trainer_spec, f"{name}_piece")
        setattr(model.trainer_spec, f"{name}_id", ids.get(token, -1))
