"""Held-out texts beside what the model says of them: the first ones, and those of which it knows least."""

import heapq
from dataclasses import dataclass, field
from typing import NamedTuple

import lightning as L
import torch

from zoo.callbacks.looking import Looking, boards
from zoo.data.base import require_least
from zoo.heads.base import Batch, Look
from zoo.modules.base import ZooModule

LONGEST = 500
"""Characters of a text that are shown."""


class Example(NamedTuple):
    """A held-out text and what is said of it."""

    loss: float
    text: str
    said: str
    right: str


@dataclass
class Shown:
    """The examples that are shown of a head."""

    first: list[Example] = field(default_factory=list)
    worst: list[Example] = field(default_factory=list)
    """A heap, the least bad one on top."""


class Examples(Looking[Shown]):
    """Shows the first held-out texts after each validation, and those with the highest losses.

    Beside each stands what the model says and what is right: a label, a number, or, for words, the text with
    its spans in brackets.

    Args:
        num_first: How many of the first.
        num_worst: How many of the worst.
    """

    def __init__(self, num_first: int = 8, num_worst: int = 8) -> None:
        super().__init__()
        require_least("num_first", num_first, 0)
        require_least("num_worst", num_worst, 0)
        self.num_first, self.num_worst = num_first, num_worst

    def start(self, look: Look, module: ZooModule) -> Shown:
        """None yet."""
        return Shown()

    def add(self, kept: Shown, look: Look, batch: Batch, module: ZooModule) -> None:
        """Keeps those of a batch that are among the first, or the worst so far."""
        assert module.tokenizer is not None
        losses = look.losses.tolist()
        for number, (row, loss) in enumerate(zip(look.rows.tolist(), losses, strict=True)):
            is_first = len(kept.first) < self.num_first
            is_worst = len(kept.worst) < self.num_worst or (kept.worst and loss > kept.worst[0].loss)
            if is_first or is_worst:
                text = module.tokenizer.decode(batch["input_ids"][row].tolist())
                example = Example(loss, text, look.said[number], look.right[number])
                if is_first:
                    kept.first.append(example)
                if len(kept.worst) < self.num_worst:
                    heapq.heappush(kept.worst, example)
                elif is_worst:
                    heapq.heapreplace(kept.worst, example)

    def show(self, kept: Shown, name: str, trainer: L.Trainer, module: ZooModule) -> None:
        """Writes them as tables, the worst of all processes; those that share a model have the same."""
        every = [kept.worst]
        if trainer.world_size > 1:
            every = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(every, kept.worst)
        worst = heapq.nlargest(self.num_worst, {example for part in every for example in part})
        for board in boards(trainer):
            for kind, examples in (("first", kept.first), ("worst", worst)):
                if examples:
                    board.add_text(f"{name}examples_{kind}", table(examples), trainer.global_step)


def table(examples: list[Example]) -> str:
    """In Markdown, as TensorBoard shows it; what is told wrong is bold."""
    lines = ["| loss | text | told | right |", "|---:|---|---|---|"]
    for loss, *texts in examples:
        text, said, right = (_cell(part) for part in texts)
        lines.append(f"| {loss:.3f} | {text} | {said if said == right else f'**{said}**'} | {right} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
    return " ".join(cut.split()).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
