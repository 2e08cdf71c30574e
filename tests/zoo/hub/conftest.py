"""A tiny model in the Hub's format, to be broken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.modules import DecoderModule
from zoo.tokenizer import Tokenizer, train_byte_level_bpe

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
