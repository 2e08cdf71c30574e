"""Tokenizers whose files are lists: WordPiece's vocab.txt, byte-level BPE's vocab.json and merges.txt."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models

from zoo.errors import CheckpointError
from zoo.tokenizer import backends, special_tokens

WORDPIECE_FILE = "vocab.txt"
BPE_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
"""The Hub's names, then OpenAI's."""


def read(folder: Path, config: dict[str, Any]) -> tokenizers.Tokenizer | None:
    """The tokenizer of a folder, None where it has no such files; names its special tokens in `config`.

    Raises:
        CheckpointError: The vocabulary is of another kind.
    """
    for vocab, merges in BPE_FILES:
        if (folder / vocab).is_file() and (folder / merges).is_file():
            return _read_bpe(folder / vocab, folder / merges, config)
    path = folder / WORDPIECE_FILE
    return _read_wordpiece(path, config) if path.is_file() else None


def _read_wordpiece(path: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    vocab = {token: number for number, token in enumerate(path.read_text("utf-8").split("\n")) if token}
    names = ("unk", "cls", "sep", "pad", "mask")
    special_tokens.name_by_default(config, vocab, **{f"{name}_token": f"[{name.upper()}]" for name in names})
    named = special_tokens.named(config)
    for name in ("unk_token", "cls_token", "sep_token"):
        if named.get(name) not in vocab:
            raise CheckpointError(
                f"{path} is no WordPiece vocabulary: it has no {name}", hint=backends.CONVERT
            )
    backend = backends.wordpiece(
        vocab,
        named["unk_token"],
        lowercase=config.get("do_lower_case", True),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    )
    backends.frame_as_bert(backend, named["cls_token"], named["sep_token"])
    return backend


def _read_bpe(vocab_path: Path, merges_path: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    vocab: dict[str, int] = json.loads(vocab_path.read_text("utf-8"))
    if any(piece.endswith("</w>") for piece in vocab):
        raise CheckpointError(f"{vocab_path} is no byte-level BPE: pieces end in </w>", hint=backends.CONVERT)
    backend = backends.byte_level(
        models.BPE.from_file(str(vocab_path), str(merges_path)),
        add_prefix_space=config.get("add_prefix_space", False),
    )
    _name_bpe(config, vocab)
    named = special_tokens.named(config)
    if "add_bos_token" in config or "add_eos_token" in config:
        start = named["bos_token"] if config.get("add_bos_token") else None
        end = named["eos_token"] if config.get("add_eos_token") else None
        backends.frame_each(backend, start, end)
    elif "cls_token" in named and "sep_token" in named:
        backends.frame_as_fairseq(backend, named["cls_token"], named["sep_token"])
    return backend


def _name_bpe(config: dict[str, Any], vocab: Mapping[str, int]) -> None:
    """GPT-2's vocabulary has one special token; RoBERTa's has those of fairseq, which stand around a text."""
    end = "<|endoftext|>"
    special_tokens.name_by_default(config, vocab, bos_token=end, eos_token=end, unk_token=end)
    if not {"<s>", "</s>"} <= vocab.keys():
        return
    usual = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "unk": "<unk>", "pad": "<pad>"}
    special_tokens.name_by_default(config, vocab, **{f"{name}_token": token for name, token in usual.items()})
    if "<mask>" in vocab:
        config.setdefault("mask_token", {"content": "<mask>", "lstrip": True})
