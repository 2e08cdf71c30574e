"""What was made from data and is not made twice: trained tokenizers, tokens."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def cache_folder() -> Path:
    """Where it is kept: $ZOO_CACHE, or lightning-zoo in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("ZOO_CACHE") or f"{home}/lightning-zoo").expanduser()


def content_hash(texts: Iterable[str], *more: str) -> str:
    """A name for what is made from these texts and choices."""
    digest = hashlib.sha256("\0".join(more).encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()[:32]


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """A file or folder of the cache, made aside and moved where it is missing: the cache holds no halves."""
    path = cache_folder() / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as aside:
        make(Path(aside, name))
        try:
            os.replace(Path(aside, name), path)
        except OSError:  # another process was faster
            if not path.exists():
                raise
    return path
