"""A model's tokenizer: `tokenizers.Tokenizer` with what the checkpoint's files say around it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from zoo.errors import CheckpointError

END = "<|endoftext|>"
"""The token between documents of a tokenizer that is trained here."""

FILE, CONFIG_FILE, TEMPLATE_FILE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"


@dataclass(frozen=True)
class Tokenizer:
    """Texts to ids and back, with the special tokens of the checkpoint's files."""

    backend: tokenizers.Tokenizer
    config: dict[str, Any] = field(default_factory=dict)
    """What tokenizer_config.json says."""
    chat_template: str | None = None
    """What chat_template.jinja says."""

    @classmethod
    def from_folder(cls, folder: Path) -> Self | None:
        """From a model's folder; None where it holds no tokenizer.json.

        Raises:
            CheckpointError: A file cannot be read.
        """
        if not (folder / FILE).is_file():
            return None
        try:
            config, template = folder / CONFIG_FILE, folder / TEMPLATE_FILE
            return cls(
                tokenizers.Tokenizer.from_file(str(folder / FILE)),
                dict(json.loads(config.read_text("utf-8"))) if config.is_file() else {},
                template.read_text("utf-8") if template.is_file() else None,
            )
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(f"the tokenizer in {folder} cannot be read: {error}") from error

    @classmethod
    def from_plain(cls, value: dict[str, Any]) -> Self:
        """From what `to_plain` returned."""
        backend = tokenizers.Tokenizer.from_str(value["tokenizer"])
        return cls(backend, value["config"], value.get("chat_template"))

    def to_plain(self) -> dict[str, Any]:
        """As text and plain values, for a checkpoint."""
        return {
            "tokenizer": self.backend.to_str(),
            "config": self.config,
            "chat_template": self.chat_template,
        }

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json, tokenizer_config.json and, where there is one, chat_template.jinja."""
        (folder / FILE).write_text(self.backend.to_str(pretty=True), "utf-8")
        config = json.dumps(self.config, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / CONFIG_FILE).write_text(config + "\n", "utf-8")
        if self.chat_template is not None:
            (folder / TEMPLATE_FILE).write_text(self.chat_template, "utf-8")

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def num_bytes(self) -> list[int]:
        """Bytes of text that each id stands for; zero for special tokens."""
        added = self.backend.get_added_tokens_decoder()
        is_byte_level = isinstance(self.backend.decoder, decoders.ByteLevel)
        sizes = [0] * self.vocab_size
        for token, index in self.backend.get_vocab(with_added_tokens=True).items():
            if index in added:  # as they stand in texts
                sizes[index] = 0 if added[index].special else len(token.encode())
            elif is_byte_level:  # one character a byte
                sizes[index] = len(token)
            elif re.fullmatch(r"<0x[0-9A-F]{2}>", token):
                sizes[index] = 1
            else:
                sizes[index] = len(token.replace("▁", " ").encode())
        return sizes

    def special_id(self, name: str) -> int | None:
        """The id of `bos_token`, `eos_token`, `pad_token`…, or None."""
        token = self.config.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        return None if content is None else self.backend.token_to_id(content)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of a text, with the special tokens that the checkpoint puts around it.

        Without them, a special token that the text spells is text, too.
        """
        return self.encode_batch([text], special=special)[0]

    def encode_batch(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """Ids of each text, as `encode` gives them, several at a time."""
        self.backend.encode_special_tokens = not special
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=special)
        return [encoding.ids for encoding in encodings]

    def batch(self, texts: Sequence[str | tuple[str, str]], *, max_length: int | None = None) -> dict[str, Any]:
        """TEMPORARY."""
        import torch
        rows = self.encode_batch(texts)
        rows = [row[:max_length] for row in rows]
        width = max(map(len, rows))
        pad = self.special_id("pad_token") or 0
        return {"input_ids": torch.tensor([row + [pad] * (width - len(row)) for row in rows]),
                "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])}

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of ids."""
        text: str = self.backend.decode(list(ids), skip_special_tokens=skip_special)
        return text


def train_byte_level_bpe(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE over these texts, with one special token between documents.

    Radford et al., 2019: https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    """
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer, length=len(texts))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
    }
    return Tokenizer(backend, config)


def train(kind: str, texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """TEMPORARY."""
    if kind == "bpe":
        return train_byte_level_bpe(texts, vocab_size)
    from tokenizers import normalizers, processors
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False)
    backend.train_from_iterator(texts, trainer, length=len(texts))
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return Tokenizer(backend, {"pad_token": "[PAD]", "mask_token": "[MASK]", "sep_token": "[SEP]", "cls_token": "[CLS]", "unk_token": "[UNK]"})
