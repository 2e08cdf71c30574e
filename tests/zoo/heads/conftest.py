"""What the tests of heads share: families of all shapes, small."""

from collections.abc import Callable
from typing import Any

import pytest

import zoo
from zoo import registry
from zoo.modules.base import ZooModule
from zoo.specs import HeadSpec
from zoo.testing.parity import scramble
from zoo.tokenizer import Tokenizer, train

Build = Callable[..., ZooModule]

MODULES = {
    "Bert": "EncoderModule",
    "Llama": "DecoderModule",
    "TransformerLM": "DecoderModule",
    "Transformer": "EncoderDecoderModule",
}


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    texts = ["the cat sat on the mat and the dog ran to a red sun", "def close(self): return self"]
    return train("wordpiece", [*texts, "quick brown foxes jump over five lazy wizards, vexing judges"], 96)


@pytest.fixture
def build(tokenizer: Tokenizer) -> Build:
    """A family's tiny module with random weights, in eval mode, and a tokenizer."""

    def build(family: str, head: HeadSpec | None = None, **choices: Any) -> ZooModule:
        (group,) = {entry.group for entry in registry.entries() if entry.attribute == family}
        spec = registry.attribute(group, family)
        sizes = {**spec.tiny, "pad_token_id": 0, **choices.pop("sizes", {})}
        given = {"head": head} if head else {}
        module: ZooModule = getattr(zoo.modules, MODULES[family])(spec(**sizes), **given, **choices)
        module.build()
        scramble(module)
        module.adopt_tokenizer(tokenizer)
        return module.eval()

    return build
