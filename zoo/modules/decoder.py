"""Training a decoder, and continuing texts with it."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from zoo.errors import GenerationError
from zoo.generation import Cache, Decoding, Sampler, decode
from zoo.heads.base import Batch
from zoo.heads.causal_lm import CausalLM
from zoo.layers import Mask
from zoo.modules.base import Output, ZooModule
from zoo.specs import DecoderSpec, HeadSpec, HubModel, ScheduleSpec, Shape

DEFAULT_NEW_TOKENS = 64


class DecoderModule(ZooModule):
    """A decoder-only Transformer under a head.

    Args:
        backbone: A Hub id, a folder in the Hub's format, or a family's sizes.
        head: What stands on it.
        optimizer: By default AdamW at 3e-4; norms and biases never decay.
        lr_schedule: By default a linear warm-up, then a cosine.
    """

    shape: ClassVar[Shape] = "decoder"

    def __init__(
        self,
        backbone: HubModel | DecoderSpec,
        head: HeadSpec = CausalLM(),  # noqa: B008 - frozen
        optimizer: OptimizerCallable | None = None,
        lr_schedule: ScheduleSpec | None = None,
    ) -> None:
        super().__init__(backbone, head, optimizer, lr_schedule)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> Output:
        """Logits, and the loss where labels are given.

        Args:
            input_ids: (batch, tokens).
            attention_mask: (batch, tokens), 1 where a token is real.
            labels: (batch, tokens), each beside its own token; -100 is none.
        """
        hidden_BTD = self.hidden_states({"input_ids": input_ids, "attention_mask": attention_mask})
        loss = None if labels is None else self.head.loss(hidden_BTD, {"labels": labels}).mean
        return Output(hidden_BTD, self.head(hidden_BTD), loss)

    def hidden_states(self, batch: Batch) -> Tensor:
        """The backbone's hidden states, (batch, tokens, hidden_size)."""
        hidden: Tensor = self.backbone(
            batch["input_ids"], Mask.from_attention_mask(batch.get("attention_mask"))
        )
        return hidden

    def predict_step(self, batch: Batch, batch_idx: int) -> list[str]:
        """Continues each of the batch's `prompts`."""
        return self.predict(batch["prompts"])

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The continuation of each text, in order."""
        continued: list[str] = self.generate(list(texts))
        return continued

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
    ) -> Any:
        """Continues texts, or ids; what is not given is as generation_config.json says.

        Args:
            inputs: A text, several, or ids (batch, tokens).
            attention_mask: Of ids: (batch, tokens), 1 where a token is real.
            max_new_tokens: At most so many; by default 64, or what the model's length leaves.
            temperature: 0 is greedy; above, tokens are drawn.
            top_k: Draw among so many of the likeliest tokens.
            top_p: Draw among the fewest tokens that hold this much probability.
            stop: Texts that end a row; they are left out.
            seed: Makes draws repeatable.

        Returns:
            The new text of a text, a list of them of a list, or the new ids of each row, `list[list[int]]`.

        Raises:
            GenerationError: An empty prompt, or one too long for the model; no tokenizer for a text.
        """
        prompts = self._prompts(inputs, attention_mask)
        stop = [stop] if isinstance(stop, str) else stop
        if "" in stop:
            raise GenerationError("a text to stop at must not be empty")
        decoding = Decoding(
            max_new_tokens=self._room(prompts, max_new_tokens),
            sampler=self._sampler(temperature, top_k, top_p, seed),
            eos_token_ids=self._eos_token_ids(),
            should_stop=(lambda row, new: self._stop_at(prompts[row], new, stop) is not None)
            if stop
            else None,
        )
        training = [part for part in self.modules() if part.training]
        self.eval()
        try:
            assert isinstance(self.spec, DecoderSpec)
            rows = decode(self._step, self.spec.num_hidden_layers, prompts, decoding, self.device)
        finally:
            for part in training:
                part.training = True
        if isinstance(inputs, Tensor):
            return rows
        texts = [self._text(prompt, row, stop) for prompt, row in zip(prompts, rows, strict=True)]
        return texts[0] if isinstance(inputs, str) else texts

    def _step(self, input_ids: Tensor, mask: Mask, cache: Cache) -> Tensor:
        hidden_BTD = self.backbone(input_ids, mask, cache)
        logits_BV: Tensor = self.head(hidden_BTD[:, -1])
        return logits_BV

    def _sampler(
        self, temperature: float | None, top_k: int | None, top_p: float | None, seed: int | None
    ) -> Sampler:
        greedy: dict[str, Any] = {"temperature": 0.0}
        saved = self.generation_config if self.generation_config.get("do_sample") else greedy
        if temperature is None:
            temperature = 1.0 if saved.get("temperature") is None else saved["temperature"]
        # On the Hub, a top_k of 0 is none.
        return Sampler(
            temperature=temperature,
            top_k=saved.get("top_k") or None if top_k is None else top_k,
            top_p=saved.get("top_p") if top_p is None else top_p,
            seed=seed,
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
            prompts = [
                self.tokenizer.encode(text) for text in ([inputs] if isinstance(inputs, str) else inputs)
            ]
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise GenerationError(f"prompt {index} is empty", hint="give at least one token to continue")
        return prompts

    def require_room(self, texts: Sequence[str], max_new_tokens: int | None) -> None:
        """Refuses now what `generate` would refuse later.

        Raises:
            GenerationError: The model is too short for these texts and so many new tokens.
        """
        self._room(self._prompts(list(texts), None), max_new_tokens)

    def _room(self, prompts: list[list[int]], max_new_tokens: int | None) -> int:
        limit, longest = self.spec.max_position_embeddings, max(map(len, prompts), default=0)
        if longest >= limit or longest + (max_new_tokens or 0) > limit:
            new = f" and {max_new_tokens} new ones were asked for" if max_new_tokens else ""
            raise GenerationError(
                f"the model sees at most {limit} tokens; the prompt has {longest}{new}",
                hint=f"shorten the prompt, or ask for at most {limit - longest} new tokens"
                if longest < limit
                else "shorten the prompt",
            )
        default = self.generation_config.get("max_new_tokens") or DEFAULT_NEW_TOKENS
        return min(default, limit - longest) if max_new_tokens is None else max_new_tokens

    def _eos_token_ids(self) -> frozenset[int]:
        ids = self.generation_config.get("eos_token_id", self.spec.eos_token_id)
        if ids is None and self.tokenizer is not None:
            ids = self.tokenizer.special_id("eos_token")
        return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])

    def _stop_at(self, prompt: list[int], new: list[int], stop: Sequence[str]) -> int | None:
        text = self._continuation(prompt, new)
        return min((text.index(word) for word in stop if word in text), default=None)

    def _text(self, prompt: list[int], new: list[int], stop: Sequence[str]) -> str:
        return self._continuation(prompt, new)[: self._stop_at(prompt, new, stop)]

    def _continuation(self, prompt: list[int], new: list[int]) -> str:
        if self.tokenizer is None:
            raise GenerationError("the model has no tokenizer, so it knows no text to stop at")
        # Decoded after its prompt: some tokenizers drop the space that a text begins with.
        return self.tokenizer.decode(prompt + new)[len(self.tokenizer.decode(prompt)) :]
