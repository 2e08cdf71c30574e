"""Long texts beside a question, in windows that overlap."""

from collections.abc import Sequence

import torch

from zoo.errors import GenerationError
from zoo.heads.base import Batch
from zoo.tokenizer import Tokenizer


def windows(pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer, max_length: int, stride: int) -> Batch:
    """Questions and texts as rows, as many of each as it takes to read the whole text.

    Args:
        pairs: A question, and the text that it is about.
        tokenizer: Of the model.
        max_length: Tokens of a row, special ones counted.
        stride: Tokens that a window shares with the one before; at most half of what a question leaves.

    Returns:
        `input_ids` and `attention_mask` (windows, tokens); `example` (windows), the number of each one's
        pair; `offsets` (windows, tokens, 2), where in its text each token stands, and `text_mask` (windows,
        tokens), whether it does; `texts`, a list.

    Raises:
        GenerationError: A question leaves no room for its text.
    """
    rows, example = [], []
    for number, pair in enumerate(pairs):
        room = max_length - len(tokenizer.encodings([(pair[0], "")])[0].ids)
        if room < 2:
            raise GenerationError(
                f"a question leaves {max(room, 0)} of {max_length} tokens to its text",
                hint="give a shorter question, or a larger max_length",
            )
        encoding = tokenizer.encodings([pair], max_length, stride=min(stride, room // 2))[0]
        found = [encoding, *encoding.overflowing]
        rows += found
        example += [number] * len(found)
    in_text = [
        [
            sequence == 1 and end > start
            for sequence, (start, end) in zip(row.sequence_ids, row.offsets, strict=True)
        ]
        for row in rows
    ]
    return {
        **tokenizer.padded(rows),
        "example": torch.tensor(example),
        "offsets": tokenizer.filled([row.offsets for row in rows], 0),
        "text_mask": tokenizer.filled(in_text, 0).bool(),
        "texts": [text for _, text in pairs],
    }
