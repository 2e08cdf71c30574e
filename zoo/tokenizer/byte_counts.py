"""Bytes of text that the pieces of a vocabulary stand for, which bits per byte are counted by."""

import re
from collections.abc import Callable

import tokenizers


def size_of_pieces(backend: tokenizers.Tokenizer) -> Callable[[str], int]:
    """Bytes of text that a piece of the vocabulary stands for."""
    decoder = "" if backend.decoder is None else backend.decoder.__getstate__().decode()
    is_byte_level, has_marked_spaces = '"ByteLevel"' in decoder, "▁" in decoder
    prefix = getattr(backend.model, "continuing_subword_prefix", None) or ""
    suffix = getattr(backend.model, "end_of_word_suffix", None) or ""

    def size_of(piece: str) -> int:
        if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
            return 1
        text = piece.removeprefix(prefix).removesuffix(suffix)
        if is_byte_level:  # one character a byte
            return len(text)
        return len((text.replace("▁", " ") if has_marked_spaces else text).encode())

    return size_of
