"""What decoders and encoder-decoders share: writing texts."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Literal

from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation import (
    Decoding,
    Draft,
    Model,
    Processor,
    RowText,
    Settings,
    Speculation,
    Steps,
    compiled,
    rows_of,
    write,
)
from zoo.generation.quantization import Kind, quantize
from zoo.heads.base import Batch, Head
from zoo.modules.base import ZooModule, evaluating
from zoo.modules.calls import Call
from zoo.modules.prompts import Inputs, is_one, prompts_of
from zoo.tokenizer import Tokenizer


class GeneratingModule(ZooModule):
    """A module whose backbone can write, token by token."""

    predicted_at_once: ClassVar[int] = 1024  # not so many are written at once: some wait for others to end

    @abstractmethod
    def model_under(self, head: Head) -> Model:
        """The backbone and a head as generation sees them."""

    @abstractmethod
    def before(self, prompt: list[int]) -> list[int]:
        """Ids that stand before the new ones, and on which it may depend what these say."""

    @abstractmethod
    def room(self, prompts: list[list[int]], max_new_tokens: int | None, settings: Settings) -> int:
        """How many tokens may be written.

        Raises:
            GenerationError: The prompts, or what is asked for, are too long for the model.
        """

    def write(self, prompts: list[list[int]], decoding: Decoding, head: Head) -> Steps:
        """What a head writes after, or about, each prompt: the new tokens of each step as it is made.

        Every part must be in evaluation mode for as long as steps are asked for.
        """
        model = self._compiled_under(head) if decoding.compile else self.model_under(head)
        return write(model, rows_of(prompts, start=model.start, seed=decoding.seed), decoding)

    def _compiled_under(self, head: Head) -> Model:
        kept: dict[Head, Model] = self.__dict__.setdefault("_compiled_steps", {})
        if head not in kept:
            kept[head] = compiled(self.model_under(head))
        return kept[head]

    def new_ids(self, prompts: list[list[int]], decoding: Decoding, head: Head) -> list[list[int]]:
        """What a head writes after, or about, each prompt; under beams, the best of each in turn."""
        number = decoding.beams.num_return_sequences if decoding.beams else 1
        written: list[list[int]] = [[] for _ in range(number * len(prompts))]
        with evaluating(self):
            for step in self.write(prompts, decoding, head):
                for index, tokens in step.items():
                    written[index] += tokens
        return written

    def generate(
        self,
        inputs: Inputs,
        *,
        attention_mask: Tensor | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        no_repeat_ngram_size: int | None = None,
        num_beams: int | None = None,
        length_penalty: float | None = None,
        early_stopping: bool | Literal["never"] | None = None,
        num_return_sequences: int | None = None,
        stop: str | Sequence[str] | None = None,
        choices: Sequence[str] | None = None,
        processors: Sequence[Processor] = (),
        speculation: "Speculation | GeneratingModule | None" = None,
        seed: int | None = None,
        batch_size: int | None = None,
        compile: bool = False,
        head: str | None = None,
    ) -> Any:
        """Continues or answers texts, or ids; what is not given is as generation_config.json says.

        Args:
            inputs: A text, several, or ids (batch, tokens). Also a chat, or several: messages, each with a
                `role` and a `content`, which the checkpoint's template makes a prompt of.
            attention_mask: Of ids: (batch, tokens), 1 where a token is real.
            max_new_tokens: At most so many; by default 64, or what the model's length leaves.
            temperature: 0 is greedy; above, tokens are drawn.
            top_k: Draw among so many of the likeliest tokens.
            top_p: Draw among the fewest tokens that hold this much probability.
            min_p: Draw among the tokens that have this share of the likeliest one's probability.
            repetition_penalty: Above 1, tokens that were there are less likely to come again.
            no_repeat_ngram_size: So many tokens never come twice in a row's text; 0 allows it.
            num_beams: Texts that are kept in search of the likeliest; 1 takes token by token.
            length_penalty: Above 0, beams favour long texts; below, short ones.
            early_stopping: Whether beams end when there are `num_beams` texts, or go on while a better one is
                likely (False) or possible (`never`).
            num_return_sequences: Texts of each prompt.
            stop: Texts that end a row; they are left out.
            choices: Texts of which a row writes one, and nothing else.
            processors: What changes logits before a token is chosen, in turn: `zoo.generation.Processor`.
            speculation: How tokens are guessed, which makes a text sooner and no other: a smaller model of
                the same vocabulary, or `zoo.generation.PromptLookup()`. Prompts are then taken one by one.
            seed: Makes the draws of a prompt repeatable, whatever others are there.
            batch_size: Texts that are written together, by default 32; as some end, others take their places.
            compile: Whether the model's steps are compiled, which takes a minute or more the first time.
            head: Which one writes, where several do; by default the first.

        Returns:
            The new text of a text, a list of them of a list, or the new ids of each row, `list[list[int]]`.
            Where several texts of a prompt are asked for, a list of these stands for each.

        Raises:
            GenerationError: An empty prompt, or one too long for the model; no tokenizer for a text; no head
                that writes; choices that cannot be followed.
        """
        call = Call.of(
            self,
            inputs,
            attention_mask=attention_mask,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            no_repeat_ngram_size=no_repeat_ngram_size,
            num_beams=num_beams,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            num_return_sequences=num_return_sequences,
            stop=stop,
            choices=choices,
            processors=processors,
            speculation=speculation,
            seed=seed,
            batch_size=batch_size,
            compile=compile,
            head=head,
        )
        found = [one for _, one in sorted(call.finished(as_text=not isinstance(inputs, Tensor)))]
        return found[0] if is_one(inputs) else found

    def stream(self, inputs: Inputs, **choices: Any) -> Iterator[Any]:
        """Writes one text, piece by piece.

        Args:
            inputs: A text, a chat, or ids (1, tokens).
            choices: As `generate` takes them.

        Returns:
            Pieces that joined are what `generate` returns, each as soon as it is known: of a text, text; of
            ids, one after the other.

        Raises:
            GenerationError: As `generate` does; and more than one text was asked for.
        """
        call = Call.of(self, inputs, **choices)
        if len(call.prompts) != 1 or call.settings.num_beams > 1:
            raise GenerationError(
                "one text is streamed at a time, and not in beam search", hint="`generate` does both"
            )
        return call.ids() if isinstance(inputs, Tensor) else call.pieces()

    def finished(self, inputs: Inputs, **choices: Any) -> Iterator[tuple[int, Any]]:
        """Writes about many prompts, and tells of each when it is done.

        Args:
            inputs: Texts, chats, or ids (batch, tokens).
            choices: As `generate` takes them.

        Returns:
            The number of each prompt and what `generate` returns of it, in the order in which they are done.

        Raises:
            GenerationError: As `generate` does.
        """
        return Call.of(self, inputs, **choices).finished(as_text=not isinstance(inputs, Tensor))

    def new_text(self, prompt: list[int], new: list[int], stop: Sequence[str] = ()) -> str:
        """What new ids say, up to the first of some texts."""
        text = self.text_of(prompt, stop)
        return text.read(new) + text.end()

    def text_of(self, prompt: list[int], stop: Sequence[str] = ()) -> RowText:
        """What takes new ids, piece by piece, to text."""
        return RowText(self.require_tokenizer().of_targets.decode, self.before(prompt), stop)

    def answers(self, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """What the head that the batch names says of each text; of one that writes, what it writes."""
        name = batch["head"]
        if not self.head(name).generates:
            return super().answers(batch, tokenizer)
        ids, real = batch["input_ids"], batch["attention_mask"]
        call = Call.of(self, ids, attention_mask=real, num_return_sequences=1, head=name)
        return [text for _, text in sorted(call.finished(as_text=True))]

    def quantize(self, kind: Kind) -> None:
        """Makes the backbone's weights smaller; it can then write, and be neither trained nor saved.

        Args:
            kind: `int8` or `int4`.

        Raises:
            GenerationError: torchao is not installed, or there is nothing to make smaller.
        """
        quantize(self.backbone, kind)

    def as_draft(self, vocab_size: int) -> Draft:
        """What guesses for a larger model, as this one would write.

        Raises:
            GenerationError: Its vocabulary is another one.
        """
        if self.spec.vocab_size != vocab_size:
            raise GenerationError(
                f"a model of {self.spec.vocab_size} words cannot guess for one of {vocab_size}",
                hint="take a smaller model of the same family, or zoo.generation.PromptLookup()",
            )
        return Draft(self.eval().model_under(self.writer()))

    def writer(self, name: str | None = None) -> Head:
        """The head of this name, or the first that writes.

        Raises:
            GenerationError: It writes nothing, or none does.
        """
        names = [self.head_name(name)] if name else list(self.head_specs)
        for head in map(self.head, names):
            if head.generates:
                return head
        named = ", ".join(type(self.head_specs[name]).__name__ for name in names)
        raise GenerationError(f"the model's head {named} writes no text", hint="ask it to predict")

    def require_room(self, inputs: Inputs, max_new_tokens: int | None = None, **choices: Any) -> int:
        """Refuses now what `generate` would refuse later.

        Args:
            inputs: As `generate` takes them.
            max_new_tokens: So many are asked for.
            choices: What else `generate` is to be given.

        Returns:
            How many tokens may be written.

        Raises:
            GenerationError: The model is too short for these prompts and so many new tokens.
        """
        prompts = prompts_of(inputs, None, self.tokenizer)
        known = {field.name for field in fields(Settings)} & choices.keys()
        settings = Settings.of(self.generation_config, **{name: choices[name] for name in known})
        return self.room(prompts, max_new_tokens, settings)

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """What ends a text: as generation_config.json says, else config.json, else the tokenizer's files."""
        ids = self.generation_config.get("eos_token_id", self.spec.eos_token_id)
        if ids is None and self.tokenizer is not None:
            ids = self.tokenizer.special_id("eos_token")
        return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])

    def require_tokenizer(self) -> Tokenizer:
        """The model's tokenizer.

        Raises:
            GenerationError: It has none.
        """
        if self.tokenizer is None:
            raise GenerationError("the model has no tokenizer, so it knows ids and no text")
        return self.tokenizer
