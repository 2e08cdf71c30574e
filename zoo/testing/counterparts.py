"""Registered families in transformers: found by the registry, made from the config.json of their specs."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo import registry
from zoo.errors import PluginLoadError
from zoo.heads.base import Batch
from zoo.hub import load
from zoo.hub.config import config_of
from zoo.modules.base import ZooModule
from zoo.specs import BackboneSpec, HeadSpec
from zoo.testing.batches import batch_for, padded_on_the_left
from zoo.testing.parity import Reference, of_transformers, scramble

ODD = {
    "vocab_size": 97,
    "hidden_size": 72,
    "num_attention_heads": 9,
    "num_decoder_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 10,
}
"""Heads of an odd number, which do not fill the width where a family lets them."""
WINDOWS = ("sliding_window", "local_attention")
"""config.json's words for how far a layer looks, in tokens."""
SLIDES = {"use_sliding_window": True, "max_window_layers": 1}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
STD = 0.05
"""Of the weights: with much larger ones, bfloat16's own rounding is larger than what is promised."""


@dataclass(frozen=True)
class Counterpart:
    """One registered family under one of its heads."""

    model_type: str
    head: str
    """Its class name."""

    @property
    def family(self) -> type[BackboneSpec]:
        """The spec's class."""
        found: type[BackboneSpec] = registry.family(self.model_type)
        return found

    def sizes(self) -> dict[str, dict[str, Any]]:
        """Tiny sizes and unusual ones, by what is unusual about them."""
        names = {item.name for item in fields(self.family)}
        windows = [name for name in WINDOWS if name in names]
        odd = {**ODD, **SLIDES, **dict.fromkeys(windows, 4)}
        found = {"tiny": {}, "odd heads": {name: size for name, size in odd.items() if name in names}}
        if windows:
            found["a window longer than the text"] = dict.fromkeys(windows, 50)
        return found

    def spec(self, sizes: Mapping[str, Any] | None = None) -> BackboneSpec:
        """The family's tiny sizes without dropout, some of them others."""
        names = {item.name for item in fields(self.family)}
        drops = {name: 0.0 for name in names if "dropout" in name}
        chosen = {**SPECIAL, "model_type": self.model_type, **drops, **self.family.tiny, **(sizes or {})}
        return self.family(**{name: value for name, value in chosen.items() if name in names})

    def head_spec(self) -> HeadSpec:
        """The head, with three labels where it has any."""
        found: type[HeadSpec] = registry.usable("zoo.heads")[self.head]
        return found.of_config({"id2label": {str(number): f"label {number}" for number in range(3)}})

    def config(self, spec: BackboneSpec) -> dict[str, Any]:
        """The config.json of both."""
        return config_of(spec, self.head_spec(), "float32")

    def architecture(self) -> Any:
        """The class of transformers that config.json names; None where it has none."""
        import transformers

        return getattr(transformers, self.config(self.spec())["architectures"][0], None)

    def save(self, folder: Path, sizes: Mapping[str, Any] | None = None, *, std: float = STD) -> None:
        """Has transformers make a model of random weights, and write it."""
        kind = self.architecture()
        model = kind(kind.config_class.from_dict(self.config(self.spec(sizes))))
        scramble(model, std=std)
        model.save_pretrained(folder)

    def pair(self, folder: Path, *, is_dense: bool = False) -> tuple[ZooModule, Reference]:
        """What is saved, as both read it; transformers with its best attention, or with a dense one."""
        is_fused = getattr(self.architecture(), "_supports_sdpa", False) and not is_dense
        model, reference = of_transformers(folder, attention="sdpa" if is_fused else "eager")
        if self.family.shape != "decoder":
            return load(folder), reference

        def forward(batch: Batch) -> tuple[Tensor, Tensor]:
            positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            return reference.forward({**batch, "position_ids": positions})

        return load(folder), Reference(forward, reference.gradients, model)

    def batch(self, sizes: Mapping[str, Any] | None = None, *, is_left: bool = False, seed: int = 0) -> Batch:
        """What both are asked.

        Args:
            sizes: Those that are not the tiny ones.
            is_left: Whether padding stands before a decoder's texts, where a tensor must say what is seen.
            seed: Of its ids.
        """
        batch = batch_for(self.head, vars(self.spec(sizes)), seed=seed)
        return padded_on_the_left(batch) if is_left and self.family.shape == "decoder" else batch


def registered() -> list[Counterpart]:
    """Every head of every registered family that can be used."""
    found = []
    for entry in (entry for group in registry.FAMILIES for entry in registry.in_group(group)):
        if entry.state == "ok":
            with contextlib.suppress(PluginLoadError):
                found += [Counterpart(entry.name, head) for head in entry.load().heads]
    return found
