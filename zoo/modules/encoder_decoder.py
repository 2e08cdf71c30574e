"""Training an encoder-decoder, and writing texts about texts with it."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from zoo.adapters import LoRA
from zoo.errors import GenerationError, SpecError
from zoo.generation import Cache, FixedCache, Model, Settings, Source
from zoo.heads.base import Batch, Head
from zoo.heads.seq2seq_lm import Seq2SeqLM
from zoo.layers import IGNORED, Mask
from zoo.modules.generating import GeneratingModule
from zoo.specs import EncoderDecoderSpec, HeadSpec, HubModel, ScheduleSpec, Shape
from zoo.training.blocks import Checkpointing


class EncoderDecoderModule(GeneratingModule):
    """An encoder-decoder Transformer under one or several heads.

    Args:
        backbone: A Hub id, a folder in the Hub's format, or a family's sizes.
        head: What stands on it; by default one that writes.
        heads: Several heads by name, in place of one; each batch names its head.
        optimizer: By default AdamW at 3e-4; norms and biases never decay.
        lr_schedule: By default a linear warm-up, then a cosine.
        compile: Whether the backbone's blocks are compiled for training.
        activation_checkpointing: What the backward pass computes again in place of keeping it: `none`, whole
            blocks (`block`), or of blocks all but products and attention (`selective`).
        adapter: What is trained in place of the backbone: a `LoRA`, or the folder or Hub id of one that was.
        freeze: Globs of names of parameters that stay as they are.
        layer_decay: What the learning rate of each block is multiplied by beside that of the next one.
    """

    shape: ClassVar[Shape] = "encoder-decoder"
    reads = frozenset({"decoder_input_ids", "decoder_attention_mask"})

    def __init__(
        self,
        backbone: HubModel | EncoderDecoderSpec,
        head: HeadSpec | None = None,
        heads: dict[str, HeadSpec] | None = None,
        optimizer: OptimizerCallable | None = None,
        lr_schedule: ScheduleSpec | None = None,
        compile: bool = False,
        activation_checkpointing: Checkpointing = "none",
        adapter: HubModel | LoRA | None = None,
        freeze: Sequence[str] = (),
        layer_decay: float = 1.0,
    ) -> None:
        head = Seq2SeqLM() if head is None and heads is None else head
        super().__init__(
            backbone, head, heads, optimizer, lr_schedule, compile, activation_checkpointing, adapter, freeze,
            layer_decay,
        )  # fmt: skip

    def hidden_states(self, batch: Batch) -> Tensor:
        """The decoder's hidden states, (batch, decoder tokens, hidden_size).

        What the decoder reads is `decoder_input_ids`, or, one step behind, what it is to write; under a head
        that writes nothing, one step behind what the encoder reads.
        """
        (input_ids, real), (decoder_input_ids, decoder_real) = self.read(batch)
        output = self.backbone(
            input_ids,
            Mask.from_attention_mask(real),
            decoder_input_ids,
            Mask.from_attention_mask(decoder_real),
            **self.inputs(batch),
        )
        return self.hidden_of(output)

    def read(self, batch: Batch) -> list[tuple[Tensor, Tensor | None]]:
        """Ids that the encoder and the decoder read, and what tells which are real."""
        seen = (batch["input_ids"], batch.get("attention_mask"))
        read, real = batch.get("decoder_input_ids"), batch.get("decoder_attention_mask")
        if read is not None:
            return [seen, (read, real)]
        if not self.head(batch.get("head")).generates:
            return [seen, (self._shifted(*seen), seen[1])]
        if "labels" not in batch:
            raise SpecError("an encoder-decoder needs `labels` or `decoder_input_ids`")
        return [seen, (self._shifted(batch["labels"], real), real)]

    @property
    def start_id(self) -> int:
        """What stands before the first token that is written."""
        assert isinstance(self.spec, EncoderDecoderSpec)
        return self._pad_id if self.spec.start_id is None else self.spec.start_id

    @property
    def first_id(self) -> int:
        """The same, where texts are written: generation_config.json may say another one."""
        saved = self.generation_config.get("decoder_start_token_id")
        return self.start_id if saved is None else int(saved)

    def write_in(self, language: str) -> None:
        """Has a model of several languages write in this one, as its generation_config.json then says.

        Args:
            language: Its token: `ro_RO`.

        Raises:
            DataError: The tokenizer tells texts' languages by no token, or does not know this one.
        """
        assert isinstance(self.spec, EncoderDecoderSpec)
        self.tokenizer = self.require_tokenizer().in_languages(target=language)
        first, *_, last = self.tokenizer.of_targets.encode("")
        if self.tokenizer.begins_with_language:
            self.generation_config["forced_bos_token_id"] = first
        if self.spec.begins_with == "last":
            self.generation_config["decoder_start_token_id"] = last

    @property
    def _pad_id(self) -> int:
        if self.spec.pad_token_id is None:
            raise SpecError("an encoder-decoder needs a `pad_token_id`", at="model.backbone.pad_token_id")
        return self.spec.pad_token_id

    def _shifted(self, ids_BT: Tensor, real_BT: Tensor | None = None) -> Tensor:
        """Ids one step later, each text after what the family has it begin with."""
        assert isinstance(self.spec, EncoderDecoderSpec)
        ids_BT = ids_BT.masked_fill(ids_BT == IGNORED, self._pad_id)
        begins_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        begins_BT[:, 0] = True
        if real_BT is not None:
            before_BT = nn.functional.pad(real_BT[:, :-1], (1, 0))
            begins_BT |= (real_BT > 0) & (real_BT != before_BT)
        later_BT = nn.functional.pad(ids_BT[:, :-1], (1, 0))
        if self.spec.begins_with == "start":
            return later_BT.masked_fill(begins_BT, self.start_id)
        return torch.where(begins_BT, last_of_each(ids_BT, real_BT, self._pad_id), later_BT)

    def model_under(self, head: Head) -> Model:
        """The backbone and a head as generation sees them."""

        def hidden_states(input_ids: Tensor, mask: Mask, cache: Cache | FixedCache) -> Tensor:
            assert isinstance(cache, Cache)
            source = cache.source
            assert source is not None
            hidden_BTD: Tensor = self.backbone.decode(  # type: ignore[operator]
                input_ids, mask, source.hidden_BSD, source.mask, cache
            )
            return hidden_BTD

        return Model(
            hidden_states=hidden_states,
            logits=lambda hidden: head(hidden, {}),
            device=self.device,
            read=self._source,
            start=[self.first_id],
        )

    def _source(self, prompts: Sequence[Sequence[int]]) -> Source:
        longest = max(map(len, prompts))
        rows = [[*prompt, *[self._pad_id] * (longest - len(prompt))] for prompt in prompts]
        lengths_B1 = torch.tensor([[len(prompt)] for prompt in prompts], device=self.device)
        real_BS = torch.arange(longest, device=self.device) < lengths_B1
        mask = Mask(None if bool(real_BS.all()) else real_BS)
        hidden_BSD = self.backbone.encode(torch.tensor(rows, device=self.device), mask)  # type: ignore[operator]
        return Source(hidden_BSD, real_BS)

    def before(self, prompt: list[int]) -> list[int]:
        """None: what is written stands alone."""
        return []

    def room(self, prompts: list[list[int]], max_new_tokens: int | None, settings: Settings) -> int:
        """How many tokens may be written: as many as were asked for, or the default, if they fit.

        Raises:
            GenerationError: The prompts, or what is asked for, are too long for the model.
        """
        default = settings.default_new_tokens(num_given=1)
        if not self.spec.is_bounded:
            return default if max_new_tokens is None else max_new_tokens
        limit, longest = self.spec.max_tokens, max(map(len, prompts), default=0)
        if longest > limit:
            raise GenerationError(
                f"the model sees at most {limit} tokens; the prompt has {longest}", hint="shorten the prompt"
            )
        if max_new_tokens is not None and max_new_tokens > limit:
            raise GenerationError(
                f"the model writes at most {limit} tokens; {max_new_tokens} were asked for",
                hint=f"ask for at most {limit} new tokens",
            )
        return min(default, limit) if max_new_tokens is None else max_new_tokens


def last_of_each(ids_BT: Tensor, documents_BT: Tensor | None, pad_id: int) -> Tensor:
    """The last token of each token's text, (batch, tokens); by default a row is one, and padding ends it."""
    if documents_BT is None:
        documents_BT = (ids_BT != pad_id).long().flip(-1).cummax(-1).values.flip(-1)
    num_tokens = ids_BT.shape[1]
    is_last_BT = nn.functional.pad(documents_BT[:, 1:] != documents_BT[:, :-1], (0, 1), value=True)
    places_BT = torch.arange(num_tokens, device=ids_BT.device).where(is_last_BT, num_tokens)
    return ids_BT.gather(-1, places_BT.flip(-1).cummin(-1).values.flip(-1))
