"""A tiny model in the Hub's format, to be broken."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

import zoo
from zoo.hub import remote
from zoo.modules import DecoderModule
from zoo.tokenizer import Tokenizer, train_byte_level_bpe

from .loopback import TOKEN, Loopback

WORDS = "the cat sat on the mat, the dog ran to the sun.\n" * 4


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_byte_level_bpe([WORDS], 290)


@pytest.fixture
def build(tokenizer: Tokenizer) -> Callable[..., DecoderModule]:
    """Makes a tiny Llama with fresh weights and a tokenizer."""

    def make(**sizes: Any) -> DecoderModule:
        llama = zoo.decoders.Llama
        module = DecoderModule(backbone=llama(**{**llama.tiny, "vocab_size": 300, **sizes}))
        module.build()
        module.adopt_tokenizer(tokenizer)
        return module.eval()

    return make


@pytest.fixture
def model(build: Callable[..., DecoderModule]) -> DecoderModule:
    return build()


@pytest.fixture
def folder(model: DecoderModule, tmp_path: Path) -> Path:
    """The tiny Llama as a folder."""
    return zoo.save(model, tmp_path / "model")


@pytest.fixture
def edit(folder: Path) -> Callable[..., None]:
    """Changes keys of a JSON file of the folder; None takes one out."""

    def change(name: str = "config.json", **values: Any) -> None:
        path = folder / name
        known = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({key: value for key, value in known.items() if value is not None}))

    return change


@pytest.fixture
def edit_tensors(folder: Path) -> Callable[..., None]:
    """Changes tensors of the folder's weights; None takes one out."""

    def change(values: dict[str, torch.Tensor | None]) -> None:
        path = folder / "model.safetensors"
        known = {**load_file(path), **values}
        save_file({key: value for key, value in known.items() if value is not None}, path)

    return change


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A Hub on this machine, which the client of this process asks; nobody is logged in."""
    with Loopback() as hub:
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_PROGRESS_BARS": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "HF_STORED_TOKENS_PATH": str(tmp_path / "stored_tokens"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "zoo-cache"))
        monkeypatch.setattr(remote, "WAITS_SECONDS", (0.01, 0.01, 0.01))
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def logged_in(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token of the user `me`."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return TOKEN


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forbids every request from here on, as HF_HUB_OFFLINE does."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
