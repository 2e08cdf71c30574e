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
        stop: Sequence[str] = (),
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
        saved = self.generation_config
        sampled = bool(saved.get("do_sample"))
        default_temperature = saved.get("temperature", 1.0) if sampled else 0.0
        decoding = Decoding(
            max_new_tokens=self._room(prompts, max_new_tokens),
            sampler=Sampler(
                temperature=default_temperature if temperature is None else temperature,
                top_k=saved.get("top_k") if top_k is None and sampled else top_k,
                top_p=saved.get("top_p") if top_p is None and sampled else top_p,
                seed=seed,
            ),
            eos_token_ids=self._eos_token_ids(),
            should_stop=(lambda row, new: self._stop_at(prompts[row], new, stop) is not None)
            if stop
            else None,
        )
        was_training = self.training
        self.eval()
        try:
            assert isinstance(self.spec, DecoderSpec)
            rows = decode(self._step, self.spec.num_hidden_layers, prompts, decoding, self.device)
        finally:
            self.train(was_training)
        if isinstance(inputs, Tensor):
            return rows
        texts = [self._text(prompt, row, stop) for prompt, row in zip(prompts, rows, strict=True)]
        return texts[0] if isinstance(inputs, str) else texts

    def _step(self, input_ids: Tensor, mask: Mask, cache: Cache) -> Tensor:
        hidden_BTD = self.backbone(input_ids, mask, cache)
        logits_BV: Tensor = self.head(hidden_BTD[:, -1])
        return logits_BV

    def _prompts(self, inputs: str | list[str] | Tensor, attention_mask: Tensor | None) -> list[list[int]]:
        if isinstance(inputs, Tensor):
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

    def _room(self, prompts: list[list[int]], max_new_tokens: int | None) -> int:
        limit, longest = self.spec.max_position_embeddings, max(map(len, prompts), default=0)
        asked = max_new_tokens or self.generation_config.get("max_new_tokens")
        if longest >= limit or longest + (asked or 0) > limit:
            new = f" and {asked} new ones were asked for" if asked else ""
            raise GenerationError(
                f"the model sees at most {limit} tokens; the prompt has {longest}{new}",
                hint=f"shorten the prompt, or ask for at most {limit - longest} new tokens"
                if longest < limit
                else "shorten the prompt",
            )
        return asked or min(DEFAULT_NEW_TOKENS, limit - longest)

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
