import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
import zoo.cli.training  # logging binds stderr at its import, which no test may capture
from zoo.modules import DecoderModule, EncoderDecoderModule, EncoderModule
from zoo.testing.parity import scramble
from zoo.tokenizer import Tokenizer, train_byte_level_bpe

TEXT = "the cat sat on the mat, the dog ran to the sun; ümlaut and 🦙 too.\n" * 5

CHAT = """\
{% for message in messages %}<{{ message.role[0] }}>{{ message.content }}
{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"""

SavedModel = Callable[..., str]


@pytest.fixture
def saved_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SavedModel:
    """Saves a tiny model, the same each time, in a working folder; `config` is its tokenizer's."""
    monkeypatch.chdir(tmp_path)

    def save(shape: str = "decoder", saved: dict[str, Any] | None = None, **config: Any) -> str:
        sizes: dict[str, Any] = {"vocab_size": 300, "max_position_embeddings": 64}
        module: Any
        if shape == "decoder":
            module = DecoderModule(backbone=zoo.decoders.Llama(**{**zoo.decoders.Llama.tiny, **sizes}))
        elif shape == "encoder":
            spec = zoo.encoders.Bert(**{**zoo.encoders.Bert.tiny, **sizes})
            module = EncoderModule(backbone=spec, head=zoo.heads.MaskedLM())
        else:
            t5 = zoo.encoder_decoders.T5
            module = EncoderDecoderModule(backbone=t5(**{**t5.tiny, "vocab_size": 300}))
        torch.manual_seed(0)
        module.build()
        scramble(module, std=0.25)
        trained = train_byte_level_bpe([TEXT], 300)
        module.adopt_tokenizer(Tokenizer(trained.backend, {**trained.config, **config}))
        module.generation_config = {"max_new_tokens": 6, "eos_token_id": [0], **(saved or {})}
        return str(zoo.save(module, shape))

    return save


@pytest.fixture
def chat_model(saved_model: SavedModel) -> str:
    """One with a chat template."""
    return saved_model(chat_template=CHAT)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is written goes to a terminal."""
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)
