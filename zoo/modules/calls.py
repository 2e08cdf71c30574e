"""One call of `generate`: what is asked for, checked as a whole before anything is computed, then written."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation import Choices, Decoding, Processor, RowText, Settings, Speculation, Steps, Stopping
from zoo.heads.base import Head
from zoo.modules.base import ZooModule, evaluating
from zoo.modules.prompts import Inputs, prompts_of

if TYPE_CHECKING:
    from zoo.modules.generating import GeneratingModule

ROWS_AT_ONCE = 32
"""Texts that are written together, where a call does not say."""


@dataclass(frozen=True)
class Call:
    """Prompts, and how they are continued or answered."""

    module: "GeneratingModule"
    prompts: list[list[int]]
    """Each as often as texts of it are asked for; once where they are found together, by beams."""
    decoding: Decoding
    head: Head
    settings: Settings

    @classmethod
    def of(
        cls,
        module: "GeneratingModule",
        inputs: Inputs,
        *,
        attention_mask: Tensor | None = None,
        max_new_tokens: int | None = None,
        choices: Sequence[str] | None = None,
        processors: Sequence[Processor] = (),
        speculation: "Speculation | GeneratingModule | None" = None,
        seed: int | None = None,
        batch_size: int | None = None,
        compile: bool = False,
        head: str | None = None,
        stop: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> Self:
        """From the arguments of `generate`; what is not given is as generation_config.json says.

        Raises:
            GenerationError: As `generate` does.
        """
        if batch_size is not None and batch_size < 1:
            raise GenerationError(f"`batch_size` must be at least 1, got {batch_size}")
        chosen = Settings.of(module.generation_config, stop_strings=stop, **settings)
        given = prompts_of(inputs, attention_mask, module.tokenizer)
        limit = module.room(given, max_new_tokens, chosen)
        ends = module.eos_token_ids
        # A search by beams finds several texts of a prompt at once.
        num_draws = 1 if chosen.beams else chosen.num_return_sequences
        prompts = [prompt for prompt in given for _ in range(num_draws)]
        among = None if choices is None else Choices(_spelled(module, choices, prompts[:1]), ends)

        def make_text(index: int) -> RowText:
            return module.text_of(prompts[index], chosen.stop)

        decoding = Decoding(
            max_new_tokens=limit,
            sampler=chosen.sampler,
            processors=chosen.processors(ends, limit, [*([among] if among else ()), *processors]),
            seed=seed,
            eos_token_ids=ends,
            should_stop=Stopping(make_text if chosen.stop else None, among.is_complete if among else None)
            if chosen.stop or among
            else None,
            beams=chosen.beams,
            compile=compile,
            num_rows=ROWS_AT_ONCE if batch_size is None else batch_size,
            speculation=speculation.as_draft(module.spec.vocab_size)
            if isinstance(speculation, ZooModule)
            else speculation,
        )
        return cls(module, prompts, decoding, module.writer(head), chosen)

    def ids(self) -> Iterator[int]:
        """The new ids of the only row, each as soon as it is known."""
        with evaluating(self.module):
            for step in self._steps():
                yield from step.get(0, ())

    def pieces(self) -> Iterator[str]:
        """The new text of the only row, piece by piece."""
        text, new = self.module.text_of(self.prompts[0], self.settings.stop), []
        for token in self.ids():
            new.append(token)
            if piece := text.read(new):
                yield piece
        if piece := text.end():
            yield piece

    def finished(self, as_text: bool) -> Iterator[tuple[int, Any]]:
        """The number of each prompt that is done, with its new text or ids, or a list of several."""
        each = self.settings.num_return_sequences
        written: defaultdict[int, list[int]] = defaultdict(list)
        whole: defaultdict[int, dict[int, Any]] = defaultdict(dict)
        with evaluating(self.module):
            for row, tokens in ((row, new) for step in self._steps() for row, new in step.items()):
                written[row] += tokens
                if self.decoding.beams is None and not self.decoding.is_whole(row, written[row]):
                    continue
                new = written.pop(row)
                whole[row // each][row] = self._text(row, new) if as_text else new
                if len(whole[row // each]) == each:
                    found = [one for _, one in sorted(whole.pop(row // each).items())]
                    yield row // each, found if each > 1 else found[0]

    def _steps(self) -> Steps:
        return self.module.write(self.prompts, self.decoding, self.head)

    def _text(self, row: int, new: list[int]) -> str:
        # A search by beams has several rows of each prompt.
        prompt = self.prompts[row // self.decoding.beams.num_return_sequences if self.decoding.beams else row]
        return self.module.new_text(prompt, new, self.settings.stop)


def _spelled(
    module: "GeneratingModule", texts: Sequence[str], prompts: list[list[int]]
) -> dict[str, list[int]]:
    """Ids that say each text where they are written after a prompt."""
    tokenizer = module.require_tokenizer().of_targets

    def ids_of(text: str) -> list[int]:
        # Some tokenizers put a space before a text that stands alone.
        for anchor in ("", "\n", "."):
            before, both = tokenizer.encode_batch([anchor, anchor + text], special=False)
            ids = both[len(before) :]
            if both == before + ids and all(module.new_text(prompt, ids) == text for prompt in prompts):
                return ids
        return tokenizer.encode(text, special=False)

    return {text: ids_of(text) for text in texts}
