"""Which pieces of a vocabulary begin a word."""

from collections.abc import Callable

import tokenizers

_WHITE_SPACE = ("Ġ", "Ċ", "ĉ", "č", "▁", " ")
"""How pieces spell it: space, new line, tab and return over bytes, a space in SentencePiece, a space."""


def begins_word(backend: tokenizers.Tokenizer) -> Callable[[str], bool]:
    """Whether a piece begins one: by its mark of going on, or else by the white space before it."""
    if prefix := getattr(backend.model, "continuing_subword_prefix", None):
        return lambda piece: not piece.startswith(prefix)
    return lambda piece: piece.startswith(_WHITE_SPACE)
