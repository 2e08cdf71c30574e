"""A model's tokenizer: `tokenizers.Tokenizer` with what the checkpoint's files say around it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zoo.errors import DataError
from zoo.tokenizer import byte_counts, chat, languages, reading, special_tokens, words
from zoo.tokenizer.chat import Message

_NO_LIMIT = 2**31
"""transformers writes 1e30 for `model_max_length` where there is none."""


@dataclass(frozen=True)
class Tokenizer:
    """Texts to ids and back, with the special tokens of the checkpoint's files."""

    backend: tokenizers.Tokenizer
    config: dict[str, Any] = field(default_factory=dict)
    """What tokenizer_config.json says."""
    chat_template: str | None = None
    """What chat_template.jinja says."""
    target: tokenizers.Tokenizer | None = None
    """Reads what is to be written, and makes texts of it, where that has pieces of its own."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Those that are kept as they are, where no tokenizer.json can stand for them."""

    @classmethod
    def from_folder(cls, folder: Path) -> Self | None:
        """From a model's folder; None where it holds none of the files that a tokenizer is read from.

        Raises:
            CheckpointError: A file cannot be read, or needs a package that is not installed.
        """
        files = reading.read(folder)
        return None if files is None else cls(*files)

    @classmethod
    def from_plain(cls, value: dict[str, Any]) -> Self:
        """From what `to_plain` returned."""
        backend = tokenizers.Tokenizer.from_str(value["tokenizer"])
        target = tokenizers.Tokenizer.from_str(value["target"]) if value.get("target") else None
        return cls(backend, value["config"], value.get("chat_template"), target, value.get("files", {}))

    def to_plain(self) -> dict[str, Any]:
        """As text and plain values, for a checkpoint."""
        return {
            "tokenizer": self.backend.to_str(),
            "config": self.config,
            "chat_template": self.chat_template,
            "target": None if self.target is None else self.target.to_str(),
            "files": self.files,
        }

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json, or what stands for it, tokenizer_config.json and any chat_template.jinja."""
        files = self.files or {reading.FILE: self.backend.to_str(pretty=True).encode()}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        config = json.dumps(self.config, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / reading.CONFIG_FILE).write_text(config + "\n", "utf-8")
        if self.chat_template is not None:
            (folder / reading.TEMPLATE_FILE).write_text(self.chat_template, "utf-8")

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def max_length(self) -> int | None:
        """Tokens that the model reads, as `model_max_length` says; None: it says nothing."""
        limit = self.config.get("model_max_length")
        return None if limit is None or limit > _NO_LIMIT else int(limit)

    @property
    def padding_side(self) -> str:
        """Where shorter rows of a batch are filled up: right or left."""
        return str(self.config.get("padding_side", "right"))

    @property
    def has_segments(self) -> bool:
        """Whether the model is told which text of a pair a token is from."""
        if names := self.config.get("model_input_names"):
            return "token_type_ids" in names
        # Llama's files number a second text as BERT's do; only BERT's also set it apart by a token.
        return self.special_id("sep_token") is not None and any(self.backend.encode("a", "a").type_ids)

    def special_id(self, name: str) -> int | None:
        """The id of `bos_token`, `eos_token`, `pad_token`…, or None."""
        token = special_tokens.named(self.config).get(name)
        return None if token is None else self.backend.token_to_id(token)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of all special tokens, the additional ones too."""
        added = self.backend.get_added_tokens_decoder().items()
        named = map(self.backend.token_to_id, special_tokens.tokens(self.config))
        return frozenset(
            [index for index, token in added if token.special]
            + [index for index in named if index is not None]
        )

    def num_bytes(self) -> list[int]:
        """Bytes of text that each id stands for; zero for special tokens."""
        added, special = self.backend.get_added_tokens_decoder(), self.special_ids
        size_of = byte_counts.size_of_pieces(self.backend)
        sizes = [0] * self.vocab_size
        for token, index in self.backend.get_vocab(with_added_tokens=True).items():
            if index not in special:
                # Added ones are as they stand in texts.
                sizes[index] = len(token.encode()) if index in added else size_of(token)
        return sizes

    def begins_word(self) -> list[bool]:
        """Whether each id begins a word; special tokens are words of their own."""
        added, begins = self.backend.get_added_tokens_decoder(), words.begins_word(self.backend)
        found = [True] * self.vocab_size
        for token, index in self.backend.get_vocab(with_added_tokens=True).items():
            found[index] = index in added or begins(token)
        return found

    def with_special_tokens(self, named: Mapping[str, str], more: Sequence[str] = ()) -> Self:
        """The same with special tokens at the end of its vocabulary.

        Args:
            named: Texts of tokens by name: `mask_token`.
            more: Texts of tokens without a name.
        """
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        backend.add_special_tokens([*named.values(), *more])
        config = {**self.config, **named}
        if more:
            config["additional_special_tokens"] = [*config.get("additional_special_tokens", []), *more]
        return replace(self, backend=backend, config=config)

    @cached_property
    def of_targets(self) -> Self:
        """The tokenizer of what is written: in the language that the files name as `tgt_lang`, if any."""
        if self.target is not None:
            return replace(self, backend=self.target, target=None)
        language = self.config.get("tgt_lang")
        return self if None in (language, self.language) else self.in_languages(language)

    @property
    def language(self) -> str | None:
        """The token that tells the model in which language a text is; None: there is no such."""
        return languages.language_of(self.backend, self.config)

    @property
    def begins_with_language(self) -> bool:
        """Whether that token stands before a text, and not after it."""
        return self.language is not None and languages.is_first(self.backend, self.language)

    def in_languages(self, source: str | None = None, target: str | None = None) -> Self:
        """The same, as it reads one language and is to write another.

        Args:
            source: The token of the language that is read, `en_XX`; None: as it is.
            target: That of what is written.

        Raises:
            DataError: It tells texts' languages by no token, or does not know this one.
        """
        given = {name: to for name, to in (("src_lang", source), ("tgt_lang", target)) if to is not None}
        framed = {
            name: languages.framed_in(self.backend, self.language, language)
            for name, language in given.items()
        }
        backend = framed.get("src_lang", self.backend)
        return replace(self, backend=backend, config={**self.config, **given})

    def encode_targets(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Ids of texts that are to be written, each ended, and in its language where that is told.

        Raises:
            DataError: There is no `eos_token` to end them.
        """
        writer, eos = self.of_targets, self.special_id("eos_token")
        if eos is None:
            raise DataError("the model's tokenizer has no `eos_token` to end what is written")
        if writer.language is not None:
            return writer.cut(texts, max_length)
        return [[*ids[: max_length - 1], eos] for ids in writer.encode_batch(texts, special=False)]

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of a text, with the special tokens that the checkpoint puts around it.

        Without them, a special token that the text spells is text, too. Not so for a SentencePiece Unigram:
        there it is a piece like any other.
        """
        return self.encode_batch([text], special=special)[0]

    def encode_batch(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """Ids of each text, as `encode` gives them, several at a time."""
        self.backend.encode_special_tokens = not special
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=special)
        return [encoding.ids for encoding in encodings]

    @property
    def chat_templates(self) -> dict[str, str]:
        """Templates by name, mostly `default` alone; chat_template.jinja counts before the configuration."""
        if self.chat_template is not None:
            return {"default": self.chat_template}
        return chat.named(self.config.get("chat_template"))

    def apply_chat_template(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        template: str | None = None,
        tools: Sequence[dict[str, Any]] | None = None,
        **values: Any,
    ) -> str:
        """A chat as the text that the model was taught, equal to transformers'.

        Args:
            messages: Each with a `role` and a `content`.
            add_generation_prompt: Whether what opens an answer stands at the end.
            template: The name of one, where there are several.
            tools: JSON schemas of what the model may call.
            values: What the template may read besides.

        Raises:
            GenerationError: There is no such template, or it refuses the messages.
            CheckpointError: The template is no Jinja.
        """
        given = {"tools": tools, "add_generation_prompt": add_generation_prompt, **values}
        return chat.render(
            chat.chosen(self.chat_templates, template, bool(tools)), messages, **self._read(given)
        )

    def _read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a template reads besides messages."""
        return {**special_tokens.named(self.config), "documents": None, **given}

    def encode_chat(self, messages: Sequence[Message], **choices: Any) -> list[int]:
        """Ids of a chat; the template writes the special tokens, so none are put around it."""
        self.backend.encode_special_tokens = False
        text = self.apply_chat_template(messages, **choices)
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def encode_answers(
        self, messages: Sequence[Message], *, only_last: bool = False
    ) -> tuple[list[int], list[bool]]:
        """Ids of a chat, and which of them hold what the assistant says, its end of turn included.

        Args:
            messages: Each with a `role` and a `content`.
            only_last: Whether what it says last counts alone.

        Raises:
            GenerationError: As `apply_chat_template` does; or the template does not tell.
        """
        self.backend.encode_special_tokens = False
        template, values = chat.chosen(self.chat_templates, None, False), self._read({"tools": None})
        text, spans = chat.with_answers(template, messages, **values)
        found = self.backend.encode(text, add_special_tokens=False)
        spoken = np.zeros(len(text) + 1, dtype=bool)
        for start, end in spans[-1:] if only_last else spans:
            spoken[start:end] = True
        # A token of spaces alone may have shrunk to its end.
        is_answer = [bool(spoken[min(start, end - 1) : end].any()) for start, end in found.offsets]
        return list(found.ids), is_answer

    def batch_chats(self, chats: Sequence[Sequence[Message]], **choices: Any) -> dict[str, Tensor]:
        """Chats as the tensors of `batch`, none of them cut."""
        rows = [self.encode_chat(messages, **choices) for messages in chats]
        padding = self.special_id("pad_token") or 0
        real = [[1] * len(row) for row in rows]
        return {"input_ids": self.filled(rows, padding), "attention_mask": self.filled(real, 0)}

    def batch(
        self, texts: Sequence[str | tuple[str, str]], *, max_length: int | None = None
    ) -> dict[str, Tensor]:
        """Texts as tensors (texts, tokens), cut and filled up on the sides that the checkpoint says.

        Args:
            texts: At least one; a pair is read as one text.
            max_length: Tokens of a row, special ones counted; by default `model_max_length`. Of a pair the
                longer text is cut.

        Returns:
            `input_ids`, `attention_mask` and, where the model is told segments, `token_type_ids`.

        Raises:
            DataError: The special tokens alone are longer.
        """
        limit = self.max_length if max_length is None else max_length
        return self.padded(self._cut(texts, limit, self.backend.encode_batch_fast))

    def padded(self, encodings: Sequence[tokenizers.Encoding]) -> dict[str, Tensor]:
        """Encodings as the tensors of `batch`."""
        rows = {
            "input_ids": ([encoding.ids for encoding in encodings], self.special_id("pad_token") or 0),
            "attention_mask": ([[1] * len(encoding.ids) for encoding in encodings], 0),
        }
        if self.has_segments:
            segments = [encoding.type_ids for encoding in encodings]
            rows["token_type_ids"] = segments, int(self.config.get("pad_token_type_id", 0))
        return {name: self.filled(values, fill) for name, (values, fill) in rows.items()}

    def cut(self, texts: Sequence[str | tuple[str, str]], max_length: int) -> list[list[int]]:
        """Ids of each text or pair, cut as `batch` cuts them."""
        return [encoding.ids for encoding in self._cut(texts, max_length, self.backend.encode_batch_fast)]

    def encodings(
        self,
        texts: Sequence[str | tuple[str, str]],
        max_length: int | None = None,
        *,
        stride: int | None = None,
    ) -> list[tokenizers.Encoding]:
        """Ids of each text or pair with their places in it, cut to so many tokens.

        Args:
            texts: At least one.
            max_length: Tokens of a row, special ones counted; None: nothing is cut.
            stride: Cuts of a pair the second text alone; the rest of it stands in each encoding's
                `overflowing`, and pieces share so many tokens.

        Raises:
            DataError: The special tokens alone are longer.
        """
        return self._cut(texts, max_length, self.backend.encode_batch, stride)

    def _cut(
        self,
        texts: Sequence[str | tuple[str, str]],
        max_length: int | None,
        encode: Callable[[list[Any]], list[tokenizers.Encoding]],
        stride: int | None = None,
    ) -> list[tokenizers.Encoding]:
        self.backend.encode_special_tokens = False
        if max_length is None:
            return encode(list(texts))
        # The backend would not cut at all.
        least = self.backend.num_special_tokens_to_add(any(not isinstance(text, str) for text in texts))
        if max_length < least:
            raise DataError(
                f"rows of {max_length} tokens have no room for the tokenizer's {least} special tokens",
                at="max_length",
                hint=f"set it to at least {least}",
            )
        ways: dict[str, Any] = {"direction": self.config.get("truncation_side", "right")}
        if stride is not None:
            ways = {"stride": stride, "strategy": "only_second"}
        self.backend.enable_truncation(max_length, **ways)
        try:
            return encode(list(texts))
        finally:
            self.backend.no_truncation()

    def filled(self, rows: Sequence[Sequence[Any]], fill: int) -> Tensor:
        """Rows of one number, or several, a token as a tensor, filled up on the side that the files say."""
        tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
        return pad_sequence(tensors, batch_first=True, padding_value=fill, padding_side=self.padding_side)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of ids."""
        text: str = self.backend.decode(list(ids), skip_special_tokens=skip_special)
        return text
