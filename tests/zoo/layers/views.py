"""Descriptions of what is seen, written out, and how to draw them."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from zoo.layers import Mask


@dataclass(frozen=True)
class View:
    """A description written out: which token of a row sees which."""

    documents: list[list[int]]
    is_causal: bool
    reach: int | None
    prefix: list[list[bool]] | None

    def mask(self) -> Mask:
        mask = Mask.from_attention_mask(torch.tensor(self.documents)).within(self.reach)
        if self.prefix is not None:
            mask = mask.with_prefix(torch.tensor(self.prefix))
        return mask.causal() if self.is_causal else mask

    def sees(self, row: int, query: int, key: int) -> bool:
        """The definition, for a real query."""
        documents = self.documents[row]
        is_before = key <= query or not self.is_causal
        is_prefix = self.prefix is not None and self.prefix[row][key]
        is_near = self.reach is None or abs(query - key) < self.reach
        return documents[query] == documents[key] and (is_before or is_prefix) and is_near


@st.composite
def packed_rows(draw: st.DrawFn, num_tokens: int, *, several: bool) -> list[list[int]]:
    """Rows of documents, numbered from one, with padding before, between and after them."""
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        row: list[int] = []
        number = 0
        while len(row) < num_tokens:
            is_document = draw(st.booleans()) and (several or number == 0)
            number += is_document
            row += [number if is_document else 0] * draw(st.integers(1, num_tokens))
        rows.append(row[:num_tokens])
    return rows


@st.composite
def views(draw: st.DrawFn) -> View:
    num_tokens = draw(st.integers(1, 8))
    whole = st.just([[1] * num_tokens] * 2)
    documents = draw(whole | packed_rows(num_tokens, several=False) | packed_rows(num_tokens, several=True))
    flags = st.lists(st.booleans(), min_size=num_tokens, max_size=num_tokens)
    return View(
        documents,
        is_causal=draw(st.booleans()),
        reach=draw(st.none() | st.none() | st.integers(1, num_tokens + 1)),
        prefix=draw(
            st.none() | st.none() | st.lists(flags, min_size=len(documents), max_size=len(documents))
        ),
    )
