"""How often a program that a model writes passes its tests."""

import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from zoo.callbacks.text_metrics import Measured, TextMetrics
from zoo.data.base import ZooData, require_least
from zoo.modules.generating import GeneratingModule
from zoo.programs import Limits, pass_at_k, passes


def code_in(text: str) -> str:
    """The first block of code between fences, or the whole text."""
    found = re.search(r"```[\w+-]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    return found[1] if found else text


class PassAtK(TextMetrics):
    """Has programs written after each validation, runs them apart with their tests, and logs `pass@k`.

    The data is `zoo.data.Conversations` with `tests`. What confines the programs: `zoo.programs`.

    Args:
        ks: Of how many programs one must pass.
        num_programs: Programs that are drawn for each text; at least the largest of `ks`.
        temperature: At which they are drawn.
        max_texts: How many texts they are written for, the first of the held-out ones; None: all.
        max_new_tokens: Length of a program.
        seconds: Of each program.
    """

    def __init__(
        self,
        ks: Sequence[int] = (1,),
        num_programs: int = 5,
        temperature: float = 0.8,
        max_texts: int | None = 20,
        max_new_tokens: int = 256,
        seconds: int = 5,
    ) -> None:
        super().__init__([], max_texts, max_new_tokens)
        require_least("num_programs", num_programs, max(ks))
        self.ks, self.num_programs, self.temperature = list(ks), num_programs, temperature
        self.limits = Limits(seconds=seconds)

    def questions(self, data: ZooData) -> Sequence[tuple[Any, str]]:
        """What programs are to do, and their tests."""
        programs: Any = getattr(data, "programs", list)
        found: Sequence[tuple[Any, str]] = programs()
        return found

    def measured(self, module: GeneratingModule, questions: Sequence[tuple[Any, str]], head: str) -> Measured:
        """How often one of k passes, from 0 to 1."""
        texts = [text for text, _ in questions for _ in range(self.num_programs)]
        written = module.generate(
            texts, max_new_tokens=self.max_new_tokens, temperature=self.temperature, head=head
        )
        tests = [test for _, test in questions for _ in range(self.num_programs)]
        right = [
            passes(f"{code_in(program)}\n{test}\n", self.limits)
            for program, test in zip(written, tests, strict=True)
        ]
        size = self.num_programs
        counts = [sum(right[start : start + size]) for start in range(0, len(right), size)]
        return {f"pass@{k}": fmean(pass_at_k(size, count, k) for count in counts) for k in self.ks}
