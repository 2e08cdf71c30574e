"""The special tokens that tokenizer_config.json and special_tokens_map.json name."""

from collections.abc import Container
from typing import Any

import tokenizers

_MORE = ("additional_special_tokens", "extra_special_tokens")
"""The same under an old and a new name: a list, or an object by name."""


def content(token: Any) -> str | None:
    """A token's text; files write it as text or as an object."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def named(config: dict[str, Any]) -> dict[str, str]:
    """Texts of the tokens that have a name."""
    return {name: text for name, token in _named(config).items() if (text := content(token)) is not None}


def tokens(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All special tokens by text, the additional ones last, each with what is said of it."""
    more = [token for key in _MORE if isinstance(config.get(key), list) for token in config[key]]
    found = {}
    for token in (*_named(config).values(), *more):
        if (text := content(token)) is not None and text not in found:
            said = token if isinstance(token, dict) else {}
            found[text] = {"normalized": False, **said, "content": text, "special": True}
    return found


def name_by_default(config: dict[str, Any], vocab: Container[str], **usual: str) -> None:
    """Names the usual tokens, where the files name none and the vocabulary holds them."""
    for name, token in usual.items():
        if name not in config and token in vocab:
            config[name] = token


def added(token: dict[str, Any]) -> tokenizers.AddedToken:
    """A token as the backend takes it."""
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return tokenizers.AddedToken(token["content"], **{flag: token[flag] for flag in flags if flag in token})


def _named(config: dict[str, Any]) -> dict[str, Any]:
    extra = config.get("extra_special_tokens")
    own = {name: token for name, token in config.items() if name.endswith("_token")}
    return {**extra, **own} if isinstance(extra, dict) else own
