"""Languages of a model that was taught several: a token around each text says in which one it is."""

import json
from typing import Any

import tokenizers

from zoo.errors import DataError
from zoo.tokenizer import special_tokens


def language_of(backend: tokenizers.Tokenizer, config: dict[str, Any]) -> str | None:
    """The token around texts that says their language; None: there is no such."""
    known = special_tokens.tokens(config).keys() - special_tokens.named(config).values()
    return next((token for token in _frame(backend) if token in known), None)


def is_first(backend: tokenizers.Tokenizer, language: str) -> bool:
    """Whether a language's token stands before a text, and not after it."""
    frame = _frame(backend)
    return frame.index(language) < frame.index("A")


def framed_in(backend: tokenizers.Tokenizer, old: str | None, new: str) -> tokenizers.Tokenizer:
    """A copy that puts another language's token where it put one's.

    Raises:
        DataError: It puts none, or does not know the new one.
    """
    number = backend.token_to_id(new)
    if old is None or number is None:
        what = "says no languages" if old is None else f"has no token `{new}`"
        raise DataError(f"the model's tokenizer {what}, so it can read no text as `{new}`")
    state = json.loads(backend.to_str())
    frame = state["post_processor"]
    frame["special_tokens"][new] = {"id": new, "ids": [number], "tokens": [new]}
    for part in (*frame["single"], *frame["pair"]):
        part.update({kind: {**said, "id": new} for kind, said in part.items() if said["id"] == old})
    return tokenizers.Tokenizer.from_str(json.dumps(state))


def _frame(backend: tokenizers.Tokenizer) -> list[str]:
    """What stands around a text, which is itself called A; nothing, where it is not said by a template."""
    state = {} if backend.post_processor is None else json.loads(backend.post_processor.__getstate__())
    return [said["id"] for part in state.get("single", []) for said in part.values()]
