"""The special tokens that tokenizer_config.json and special_tokens_map.json name."""

from typing import Any

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
MORE = ("additional_special_tokens", "extra_special_tokens")
"""The same under an old and a new name: a list, or an object by name."""


def content(token: Any) -> str | None:
    """A token's text; files write it as text or as an object."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def named(config: dict[str, Any]) -> dict[str, str]:
    """Texts of the tokens that have a name."""
    extra = config.get("extra_special_tokens")
    tokens = dict(extra) if isinstance(extra, dict) else {}
    tokens |= {name: token for name, token in config.items() if name.endswith("_token")}
    return {name: text for name, token in tokens.items() if (text := content(token)) is not None}


def contents(config: dict[str, Any]) -> list[str]:
    """Texts of all special tokens, each once, the additional ones last."""
    known = named(config)
    more = [token for key in MORE if isinstance(config.get(key), list) for token in config[key]]
    texts = [*(known[name] for name in NAMES if name in known), *known.values(), *map(content, more)]
    return [text for text in dict.fromkeys(texts) if text is not None]
