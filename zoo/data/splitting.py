"""What is learnt from and what is held out, decided by content alone."""

import hashlib
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import TypeVar

from lightning.pytorch.utilities import rank_zero_only

from zoo.data.on_disk import Chosen
from zoo.data.reading import Document
from zoo.errors import DataError

T = TypeVar("T")


def split(documents: Sequence[Document], fraction: float) -> tuple[Sequence[Document], Sequence[Document]]:
    """Holds out about this share of the documents, by their content; of a single one, its end.

    Raises:
        DataError: One side would be empty.
    """
    if len(documents) == 1:
        text, place = documents[0].text, documents[0].place
        cut = text.rfind("\n", 0, int(len(text) * (1 - fraction))) + 1 or int(len(text) * (1 - fraction))
        parts: tuple[Sequence[Document], Sequence[Document]]
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


def apart(
    items: Sequence[T], content: Callable[[T], str], fraction: float
) -> tuple[Sequence[T], Sequence[T]]:
    """Holds out about this share of items; those of equal content stay on one side."""
    shares = array("d", (_number(content(item)) / 2**64 for item in items))
    lowest, highest = min(shares, default=0), max(shares, default=0)
    parts = array("q"), array("q")
    for number, share in enumerate(shares):
        parts[share == lowest or fraction > share != highest].append(number)  # some on either side
    training, held_out = (Chosen(items, part, _itself) for part in parts)
    return training, held_out


def _itself(item: T) -> T:
    return item


def _number(content: str) -> int:
    """Eight bytes of a hash: the place of a text in an order of all texts by content."""
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big")


@rank_zero_only
def warn_of_leaks(
    training: Sequence[T],
    held_out: Sequence[T],
    content: Callable[[T], str],
    remedy: str = "leave them out of one side, or name no `validation`: then equal rows stay together",
) -> None:
    """Says how many held-out rows stand among those that are trained on, if any: they measure nothing."""
    learnt = {_number(content(item)): number for number, item in enumerate(training)}
    leaks = [number for number, item in enumerate(held_out) if _number(content(item)) in learnt]
    if leaks:
        there = training[learnt[_number(content(held_out[leaks[0]]))]]
        places = [getattr(item, "place", f"`{content(item)[:40]}`") for item in (held_out[leaks[0]], there)]
        print(
            f"zoo: {len(leaks)} of {len(held_out)} held-out rows stand in the training data, too\n"
            f"  the first: {places[0]} and {places[1]}\n"
            f"  {remedy}",
            file=sys.stderr,
        )
