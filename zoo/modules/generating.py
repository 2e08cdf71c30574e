"""What decoders and encoder-decoders share: writing texts."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation import Decoding, Model, Sampler, Steps, decode, rows_of
from zoo.heads.base import Batch, Head
from zoo.modules.base import ZooModule, evaluating
from zoo.tokenizer import Tokenizer

DEFAULT_NEW_TOKENS = 64


class GeneratingModule(ZooModule):
    """A module whose backbone can write, token by token."""

    @abstractmethod
    def model_under(self, head: Head) -> Model:
        """The backbone and a head as generation sees them."""

    def write(self, prompts: list[list[int]], decoding: Decoding, head: Head) -> Steps:
        """What a head writes after, or about, each prompt: the new tokens of each step as it is made.

        Every part must be in evaluation mode for as long as steps are asked for.
        """
        model = self.model_under(head)
        return decode(model, rows_of(prompts, start=model.start, seed=decoding.seed), decoding)

    def new_ids(self, prompts: list[list[int]], decoding: Decoding, head: Head) -> list[list[int]]:
        """What a head writes after, or about, each prompt, as a whole."""
        written: list[list[int]] = [[] for _ in prompts]
        with evaluating(self):
            for step in self.write(prompts, decoding, head):
                for index, tokens in step.items():
                    written[index] += tokens
        return written

    @abstractmethod
    def new_text(self, prompt: list[int], new: list[int]) -> str:
        """What new ids say."""

    @abstractmethod
    def room(self, prompts: list[list[int]], max_new_tokens: int | None) -> int:
        """How many tokens may be written.

        Raises:
            GenerationError: The prompts, or what is asked for, are too long for the model.
        """

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

    def answers(self, batch: Batch, tokenizer: Tokenizer) -> list[Any]:
        """What the head that the batch names says of each text; of one that writes, what it writes."""
        if not self.head(batch["head"]).generates:
            return super().answers(batch, tokenizer)
        ids, real = batch["input_ids"], batch["attention_mask"]
        written = self.generate(ids, attention_mask=real, head=batch["head"])
        return [
            self.new_text(prompt, new) for prompt, new in zip(self._prompts(ids, real), written, strict=True)
        ]

    def generate(
        self,
        inputs: str | list[str] | Tensor,
        *,
        attention_mask: Tensor | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        head: str | None = None,
    ) -> Any:
        """Continues or answers texts, or ids; what is not given is as generation_config.json says.

        Args:
            inputs: A text, several, or ids (batch, tokens).
            attention_mask: Of ids: (batch, tokens), 1 where a token is real.
            max_new_tokens: At most so many; by default 64, or what the model's length leaves.
            temperature: 0 is greedy; above, tokens are drawn.
            top_k: Draw among so many of the likeliest tokens.
            top_p: Draw among the fewest tokens that hold this much probability.
            stop: Texts that end a row; they are left out.
            seed: Makes draws repeatable.
            head: Which one writes, where several do; by default the first.

        Returns:
            The new text of a text, a list of them of a list, or the new ids of each row, `list[list[int]]`.

        Raises:
            GenerationError: An empty prompt, or one too long for the model; no tokenizer for a text; no head
                that writes.
        """
        prompts = self._prompts(inputs, attention_mask)
        stop = [stop] if isinstance(stop, str) else stop
        if "" in stop:
            raise GenerationError("a text to stop at must not be empty")
        decoding = Decoding(
            max_new_tokens=self.room(prompts, max_new_tokens),
            sampler=self._sampler(temperature, top_k, top_p),
            seed=seed,
            eos_token_ids=self._eos_token_ids(),
            should_stop=(lambda row, new: self._stop_at(prompts[row], new, stop) is not None)
            if stop
            else None,
        )
        rows = self.new_ids(prompts, decoding, self.writer(head))
        if isinstance(inputs, Tensor):
            return rows
        texts = [self._text(prompt, row, stop) for prompt, row in zip(prompts, rows, strict=True)]
        return texts[0] if isinstance(inputs, str) else texts

    def _sampler(self, temperature: float | None, top_k: int | None, top_p: float | None) -> Sampler:
        greedy: dict[str, Any] = {"temperature": 0.0}
        saved = self.generation_config if self.generation_config.get("do_sample") else greedy
        if temperature is None:
            temperature = 1.0 if saved.get("temperature") is None else saved["temperature"]
        # On the Hub, a top_k of 0 is none.
        return Sampler(
            temperature=temperature,
            top_k=saved.get("top_k") or None if top_k is None else top_k,
            top_p=saved.get("top_p") if top_p is None else top_p,
        )

    def _prompts(self, inputs: str | list[str] | Tensor, attention_mask: Tensor | None) -> list[list[int]]:
        if isinstance(inputs, Tensor):
            if inputs.ndim != 2:
                raise GenerationError(f"ids must be (batch, tokens), got the shape {tuple(inputs.shape)}")
            real = torch.ones_like(inputs) if attention_mask is None else attention_mask
            prompts = [ids[keep.bool()].tolist() for ids, keep in zip(inputs, real, strict=True)]
        elif self.tokenizer is None:
            raise GenerationError("the model has no tokenizer, so it takes ids, not text")
        else:
            prompts = self.tokenizer.encode_batch([inputs] if isinstance(inputs, str) else inputs)
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise GenerationError(f"prompt {index} is empty", hint="give at least one token to continue")
        return prompts

    def require_room(self, texts: Sequence[str], max_new_tokens: int | None) -> None:
        """Refuses now what `generate` would refuse later.

        Raises:
            GenerationError: The model is too short for these texts and so many new tokens.
        """
        self.room(self._prompts(list(texts), None), max_new_tokens)

    def _eos_token_ids(self) -> frozenset[int]:
        ids = self.generation_config.get("eos_token_id", self.spec.eos_token_id)
        if ids is None and self.tokenizer is not None:
            ids = self.tokenizer.special_id("eos_token")
        return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])

    def _stop_at(self, prompt: list[int], new: list[int], stop: Sequence[str]) -> int | None:
        text = self.new_text(prompt, new)
        return min((text.index(word) for word in stop if word in text), default=None)

    def _text(self, prompt: list[int], new: list[int], stop: Sequence[str]) -> str:
        return self.new_text(prompt, new)[: self._stop_at(prompt, new, stop)]

    def require_tokenizer(self) -> Tokenizer:
        """The model's tokenizer.

        Raises:
            GenerationError: It has none.
        """
        if self.tokenizer is None:
            raise GenerationError("the model has no tokenizer, so it knows no text to stop at")
        return self.tokenizer
