"""Answers over a corpus: its passages as vectors, an index of these, and a reader that cites."""

from zoo.retrieval.answering import answer
from zoo.retrieval.index import Index, Passage, build

__all__ = ["Index", "Passage", "answer", "build"]
