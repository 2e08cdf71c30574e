"""A choice among given texts: a row writes one of them and nothing else."""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation.processors import keep
from zoo.generation.rows import Row


class Node:
    """Where a row stands among the choices: what may come next, and whether one of them is written."""

    def __init__(self) -> None:
        self.next: dict[int, Node] = {}
        self.is_choice = False


class Choices:
    """A processor that leaves a row the tokens by which a choice goes on.

    A row ends when it is a choice that no other begins with; where one does, an end token says which it is.

    Args:
        choices: Ids of each, by its text.
        eos_token_ids: What may end a row.

    Raises:
        GenerationError: There are none, one is empty, or one begins another and there is no end token.
    """

    def __init__(self, choices: Mapping[str, Sequence[int]], eos_token_ids: Collection[int] = ()) -> None:
        if not choices:
            raise GenerationError("`choices` must name at least one text")
        self._eos_token_ids = eos_token_ids
        self._root = Node()
        for text, ids in choices.items():
            if not ids:
                raise GenerationError(f"a choice must have at least one token, got `{text}`")
            node = self._root
            for token in ids:
                node = node.next.setdefault(token, Node())
            node.is_choice = True
        for text, ids in choices.items():
            if self._node(ids).next and not eos_token_ids:
                raise GenerationError(
                    f"the choice `{text}` begins another, and the model has no end token to tell them apart"
                )

    def __call__(self, rows: Sequence[Row], logits_BV: Tensor) -> Tensor:
        """Excludes every token by which no choice goes on."""
        for row, logits_V in zip(rows, logits_BV, strict=True):
            node = self._node(row.new)
            allowed = [*node.next, *(self._eos_token_ids if node.is_choice else ())]
            if allowed:  # a row that has ended may go on beside others
                keep(logits_V, allowed)
        return logits_BV

    def is_complete(self, new: Sequence[int]) -> bool:
        """Whether these new ids are a choice with which no other begins."""
        node = self._node(new)
        return node.is_choice and not node.next

    def _node(self, ids: Sequence[int]) -> Node:
        node = self._root
        for token in ids:
            node = node.next.get(token) or Node()
        return node
