"""What is learnt from and what is held out, decided by content alone."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from zoo.data.reading import Document
from zoo.errors import DataError

T = TypeVar("T")


def split(documents: list[Document], fraction: float) -> tuple[list[Document], list[Document]]:
    """Holds out about this share of the documents, by their content; of a single one, its end.

    Raises:
        DataError: One side would be empty.
    """
    if len(documents) == 1:
        text, place = documents[0].text, documents[0].place
        cut = text.rfind("\n", 0, int(len(text) * (1 - fraction))) + 1 or int(len(text) * (1 - fraction))
        parts = [Document(text[:cut], place)], [Document(text[cut:], place)]
    else:
        parts = apart(documents, lambda document: document.text, fraction)
    if not all(any(document.text for document in part) for part in parts):
        raise DataError(
            f"the text cannot be split with {fraction} held out; "
            f"different documents: {len({document.text for document in documents})}",
            hint="give more text, another validation_fraction, or a source for validation",
        )
    return parts


def apart(items: Sequence[T], content: Callable[[T], str], fraction: float) -> tuple[list[T], list[T]]:
    """Holds out about this share of items; those of equal content stay on one side."""
    shares = [_share(content(item)) for item in items]
    lowest, highest = min(shares, default=0), max(shares, default=0)
    parts: tuple[list[T], list[T]] = [], []
    for item, share in zip(items, shares, strict=True):
        parts[share == lowest or fraction > share != highest].append(item)  # some on either side
    return parts


def _share(content: str) -> float:
    """The share of all texts, from 0 to 1, that come before this one in an order by content."""
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") / 2**64
