"""A family as its checks see it: tiny, without dropout, with weights that hide no mistake."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from zoo import registry
from zoo.errors import SpecError, UnknownNameError
from zoo.heads.base import Batch
from zoo.heads.masked_lm import MaskedLM
from zoo.modules.base import ZooModule
from zoo.specs import BackboneSpec, HeadSpec
from zoo.testing.parity import Reference, scramble

TINY = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
"""Sizes of a family that names no tiny ones."""

READ, WRITTEN = (12, 5, 8), (9, 4, 7)
"""Tokens of a batch's rows: of what is read, and of what an encoder-decoder writes."""


@dataclass
class Family:
    """What checks build, and on what they try it."""

    kind: type[BackboneSpec]
    reference: Callable[[ZooModule], Reference | None] | None = None
    """Another implementation with a module's weights; None: as the spec says."""

    @property
    def name(self) -> str:
        """As recipes call it."""
        return registry.path_of(self.kind)

    @property
    def is_registered(self) -> bool:
        """Whether an entry point names it, so that a checkpoint finds it."""
        try:
            return registry.family(registry.model_type_of(self.kind)) is self.kind
        except UnknownNameError:
            return False

    def spec(self, *, dropout: float = 0.0, **sizes: Any) -> BackboneSpec:
        """The family's tiny sizes, every dropout the same."""
        names = {item.name for item in fields(self.kind)}
        drops = {name: dropout for name in names if "dropout" in name}
        plain = {name: size for name, size in TINY.items() if name in names}
        spec = self.kind(**{**plain, **drops, **self.kind.tiny, **sizes})
        if spec.pad_token_id is None:
            return self.spec(dropout=dropout, **{**sizes, "pad_token_id": 0})
        return spec

    def fresh(
        self, *, seed: int = 0, head: HeadSpec | None = None, dropout: float = 0.0, **choices: Any
    ) -> ZooModule:
        """A model in training, with the weights that a run starts from, under a head that tells tokens.

        Args:
            seed: Of its weights.
            head: In place of that one.
            dropout: Of all its parts.
            choices: Arguments of the module, or sizes.
        """
        module = self.unbuilt(head, dropout, **choices)
        torch.manual_seed(seed)
        module.build()
        return module.train()

    def unbuilt(self, head: HeadSpec | None = None, dropout: float = 0.0, **choices: Any) -> ZooModule:
        """A model that whoever asks for it, as a Trainer does, is to build."""
        names = {item.name for item in fields(self.kind)}
        sizes = {name: value for name, value in choices.items() if name in names}
        rest = {name: value for name, value in choices.items() if name not in names}
        spec = self.spec(dropout=dropout, **sizes)
        if head is None and spec.shape == "encoder":
            head = MaskedLM()
        kind: Any = module_of(spec.shape)
        made: ZooModule = kind(spec, head, **rest)
        return made

    def scrambled(self, **choices: Any) -> ZooModule:
        """A model with weights so large that no part of it can be overlooked."""
        module = self.fresh(**choices)
        scramble(module)
        return module.eval()

    def batch(self, read: Sequence[int] = READ, written: Sequence[int] = WRITTEN, seed: int = 0) -> Batch:
        """Rows of these lengths, padded on the right, each token of what is told with a label."""
        spec = self.spec()
        texts = random_texts(read, spec.vocab_size, seed)
        batch = dict(zip(("input_ids", "attention_mask"), padded(texts, spec.pad_token_id or 0), strict=True))
        if spec.shape == "encoder-decoder":
            answers = random_texts(written, spec.vocab_size, seed + 1)
            names = ("decoder_input_ids", "decoder_attention_mask")
            batch |= dict(zip(names, padded(answers, spec.pad_token_id or 0), strict=True))
        real = batch.get("decoder_attention_mask", batch["attention_mask"])
        labels = torch.tensor([random_texts([real.shape[1]], spec.vocab_size, seed + 2)[0]] * len(real))
        return {**batch, "labels": labels.masked_fill(real == 0, -100)}

    def written_mask(self, batch: Batch) -> Tensor:
        """Which hidden states are of real tokens, (batch, tokens)."""
        return torch.as_tensor(batch.get("decoder_attention_mask", batch["attention_mask"])) > 0


def module_of(shape: str) -> type[ZooModule]:
    """The module that trains backbones of a shape.

    Raises:
        SpecError: None is registered.
    """
    for entry in registry.in_group("zoo.modules"):
        if entry.name == shape.replace("-", "_"):
            found: type[ZooModule] = entry.load()
            return found
    raise SpecError(f"no module is registered for the shape {shape}")


def random_texts(lengths: Sequence[int], vocab_size: int, seed: int) -> list[list[int]]:
    """Ids from three on: what is below has a meaning of its own in most vocabularies."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, vocab_size, (length,), generator=generator).tolist() for length in lengths]


def padded(texts: Sequence[Sequence[int]], padding: int, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Texts as ids, and which are real, both (texts, tokens of the longest)."""
    longest = max(map(len, texts))
    ids_BT = torch.full((len(texts), longest), padding)
    real_BT = torch.zeros_like(ids_BT)
    for row, text in enumerate(texts):
        place = slice(longest - len(text), longest) if left else slice(0, len(text))
        ids_BT[row, place], real_BT[row, place] = torch.tensor(text), 1
    return ids_BT, real_BT


def require_alike(
    found: Tensor, expected: Tensor, what: str, tolerance: float = 1e-5, least: float = 1e-3
) -> None:
    """Refuses numbers that differ by more than this share of the largest, or of `least` where it is smaller.

    Raises:
        AssertionError: With the difference.
    """
    assert found.shape == expected.shape, (
        f"{what} have the shapes {list(found.shape)}, {list(expected.shape)}"
    )
    if not expected.numel():
        return
    scale = max(float(expected.detach().abs().max()), least)
    apart = float((found.detach().double() - expected.detach().double()).abs().max()) / scale
    assert apart <= tolerance, f"{what} differ by {apart:.0e} of the largest; {tolerance:.0e} is allowed"
