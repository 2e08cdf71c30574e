"""A tokenizer as a gguf file tells of it: pieces, their kinds, and how text is split before."""

import json
import re
from collections.abc import Iterator
from typing import Any

from zoo.errors import ZooError
from zoo.specs import BackboneSpec
from zoo.tokenizer import Tokenizer

# How text is split, by the pattern that tokenizer.json has, as gguf files call it.
_SPLITS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": "llama-bpe",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
}


def add(writer: Any, tokenizer: Tokenizer | None, spec: BackboneSpec) -> None:
    """Adds a tokenizer to a gguf file that is written.

    Args:
        writer: A `gguf.GGUFWriter`.
        tokenizer: A byte-level BPE, or a SentencePiece BPE.
        spec: Of the model, whose embeddings may be more than the tokenizer has ids.

    Raises:
        ZooError: It is of another kind, or splits text in a way that gguf files have no name for.
    """
    assert tokenizer is not None
    state = json.loads(tokenizer.backend.to_str())
    kind = state["model"]["type"]
    if kind != "BPE":
        raise ZooError(f"a gguf file holds a BPE, this model's tokenizer is a {kind}")
    pieces = {index: token for token, index in tokenizer.backend.get_vocab(with_added_tokens=True).items()}
    tokens = [pieces.get(index, f"[PAD{index}]") for index in range(spec.vocab_size)]
    is_bytes = not state["model"]["byte_fallback"]
    merges = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in state["model"]["merges"]]
    writer.add_tokenizer_model("gpt2" if is_bytes else "llama")
    writer.add_tokenizer_pre(_split(state) if is_bytes else "default")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [_type(index, token, tokenizer, state, pieces) for index, token in enumerate(tokens)]
    )
    if is_bytes:
        writer.add_token_merges([" ".join(pair) for pair in merges])
    else:
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_add_space_prefix(_puts_space(state))
    for name, index in _special(tokenizer, spec):
        getattr(writer, f"add_{name}_token_id")(index)
    plain, framed = tokenizer.encode("a", special=False), tokenizer.encode("a")
    writer.add_add_bos_token(framed[: -len(plain)] == [tokenizer.special_id("bos_token")])
    writer.add_add_eos_token(framed[-1] != plain[-1])
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template)


def _split(state: dict[str, Any]) -> str:
    """What gguf files call the way in which text is split before merges."""
    before = state["pre_tokenizer"] or {}
    steps = before.get("pretokenizers", [before])
    kinds = [step.get("type") for step in steps]
    plain_bytes = not steps[-1].get("add_prefix_space", False)
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True) and plain_bytes:
        return "gpt-2"
    if kinds == ["Split", "ByteLevel"] and plain_bytes:
        pattern = steps[0]["pattern"].get("Regex", "")
        if pattern in _SPLITS:
            return _SPLITS[pattern]
    raise ZooError("this model's tokenizer splits text in a way that gguf files have no name for")


def _type(index: int, token: str, tokenizer: Tokenizer, state: dict[str, Any], pieces: dict[int, str]) -> int:
    """1 is a piece of text, 2 the unknown, 3 special, 4 added, 5 no token, 6 a byte."""
    if index not in pieces:
        return 5
    if token == state["model"]["unk_token"]:
        return 2
    if index in tokenizer.special_ids:
        return 3
    if index in tokenizer.backend.get_added_tokens_decoder():
        return 4
    is_byte = state["model"]["byte_fallback"] and re.fullmatch("<0x[0-9A-F]{2}>", token)
    return 6 if is_byte else 1


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    """Higher where a piece is merged sooner."""
    ranks: dict[str, int] = {}
    for left, right in merges:
        ranks.setdefault(left + right, len(ranks))
    return [-float(ranks.get(token, len(ranks))) for token in tokens]


def _puts_space(state: dict[str, Any]) -> bool:
    """Whether a text's first word is read as one within a text."""
    steps = [state[name] or {} for name in ("normalizer", "pre_tokenizer")]
    steps = [one for step in steps for one in step.get("normalizers", step.get("pretokenizers", [step]))]
    return any(
        step.get("type") == "Prepend" or step.get("prepend_scheme") in ("always", "first") for step in steps
    )


def _special(tokenizer: Tokenizer, spec: BackboneSpec) -> Iterator[tuple[str, int]]:
    for name in ("bos", "eos", "unk", "pad"):
        own = getattr(spec, f"{name}_token_id", None)
        index = tokenizer.special_id(f"{name}_token")
        if index is None:
            index = own[0] if isinstance(own, list) else own
        if index is not None:
            yield name, index
