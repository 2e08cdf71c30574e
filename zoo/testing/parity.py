"""Numerical equality with a reference: logits, loss and every gradient."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close

from zoo.heads.base import Batch
from zoo.hub.config import read_config
from zoo.hub.weights import files_of
from zoo.layers import IGNORED
from zoo.modules.base import ZooModule

TOLERANCE = 1e-5
"""Relative and absolute, in float32."""


EXPERTS = {"experts_implementation": "eager"}
"""How transformers computes experts of any width."""


@dataclass(frozen=True)
class Reference:
    """Another implementation of the same model, with the same weights."""

    forward: Callable[[Batch], tuple[Tensor, Tensor]]
    """A batch to logits and mean loss."""
    gradients: Callable[[], Mapping[str, Tensor | None]]
    """After a backward pass, those of its parameters by their names on the Hub."""
    model: nn.Module | None = None
    """What is trained, where it is to be."""


@dataclass(frozen=True)
class Parity:
    """The largest differences that were found, relative to the largest value."""

    logits: float
    loss: float
    gradients: float


def assert_parity(module: ZooModule, reference: Reference, batch: Batch, **tolerance: Any) -> Parity:
    """Asserts equal logits at real tokens, equal loss, and an equal gradient of every parameter.

    Args:
        module: A built module with one head.
        reference: What it must equal.
        batch: `input_ids`, `attention_mask` and `labels`; some row should be padded.
        tolerance: `rtol` and `atol`, where 1e-5 is not what is promised.

    Raises:
        AssertionError: It names what differs, and by how much.
    """
    tolerance = {"rtol": TOLERANCE, "atol": TOLERANCE, **tolerance}
    output = module(**batch)
    logits, loss = reference.forward(batch)
    real = compared(module, batch, logits)
    assert_close(output.logits[real], logits[real], **tolerance, msg=lambda text: f"logits: {text}")
    assert_close(output.loss, loss, **tolerance, msg=lambda text: f"loss: {text}")
    torch.autograd.backward((output.loss, loss))
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
    ours, gradients = module.hub_tensors(gradients=True), reference.gradients()
    assert ours.keys() == gradients.keys(), "the two models name other parameters"
    apart, largest = 0.0, 1e-30
    for name, theirs in gradients.items():
        assert theirs is not None, f"the reference gives {name} no gradient"
        mine = ours[name]
        assert_close(mine, theirs, **tolerance, msg=functools.partial("gradient of {}: {}".format, name))
        # Beside the whole model's largest: some, as that of a key's bias, are zero but for rounding.
        apart = max(apart, float((mine - theirs).abs().max()))
        largest = max(largest, float(theirs.abs().max()))
    return Parity(
        _difference(output.logits[real], logits[real]), _difference(output.loss, loss), apart / largest
    )


def compared(module: ZooModule, batch: Batch, logits: Tensor) -> Tensor | slice:
    """Where logits are compared: at real tokens of what is read, or at labels of what is written."""
    is_written = module.shape == "encoder-decoder" and module.head().generates
    real_BT = batch["labels"] != IGNORED if is_written else batch["attention_mask"].bool()
    has_rows_of_tokens = logits.shape[:2] == real_BT.shape  # else one row for a text
    return torch.as_tensor(real_BT) if has_rows_of_tokens else slice(None)


@torch.no_grad()
def _difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


@torch.no_grad()
def scramble(model: nn.Module, *, std: float = 0.3, seed: int = 0) -> None:
    """Random values for all that is trained, what starts at one or zero included: these hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    trained = [(name, part) for name, part in model.named_parameters() if part.requires_grad]
    for name, parameter in trained:
        is_scale = parameter.ndim == 1 and name.endswith("weight")
        noise = torch.randn(parameter.shape, generator=generator) * (0.2 if parameter.ndim == 1 else std)
        parameter.copy_(noise + is_scale)


def of_transformers(folder: Path, *, attention: str = "eager") -> tuple[Any, Reference]:
    """What transformers makes of a saved model, every tensor of which it must know and fill.

    Args:
        folder: In the Hub's format.
        attention: How transformers is to compute it: eager, or sdpa.

    Raises:
        AssertionError: A tensor of the folder is unknown there, or one is missing.
    """
    import transformers

    (architecture,) = read_config(folder)["architectures"]
    model, info = getattr(transformers, architecture).from_pretrained(
        folder, output_loading_info=True, attn_implementation=attention, **EXPERTS
    )
    assert not info["missing_keys"], f"transformers misses {info['missing_keys']}"
    assert not info["unexpected_keys"], f"transformers does not know {info['unexpected_keys']}"
    held = {name for path in files_of(folder) for name in load_file(path)}
    return model, reference_of(model.eval(), held)


def reference_of(model: Any, held: Collection[str] | None = None) -> Reference:
    """A model of transformers as a reference, its parameters under the names under which it saves them.

    Args:
        model: Of transformers.
        held: Names of its files; what they do not hold is computed, and has no gradient that counts.
    """
    from transformers.core_model_loading import revert_weight_conversion

    def forward(batch: Batch) -> tuple[Tensor, Tensor]:
        if "num_choices" in batch:  # the answers to a question are an axis there
            (number,) = batch["num_choices"].unique().tolist()
            axes = {
                name: value.unflatten(0, (-1, number)) for name, value in batch.items() if value.ndim == 2
            }
            output = model(**axes, labels=batch["labels"])
        elif "start_positions" in inspect.signature(model.forward).parameters:
            start, end = batch["labels"].unbind(-1)
            given = {name: value for name, value in batch.items() if name != "labels"}
            output = model(**given, start_positions=start, end_positions=end)
            return torch.stack((output.start_logits, output.end_logits), -1), output.loss
        else:
            output = model(**batch)
        return output.logits, output.loss

    def gradients() -> Mapping[str, Tensor | None]:
        parts = model.named_parameters(remove_duplicate=False)
        every = [(name, part) for name, part in parts if part.requires_grad]
        # Of several names of one parameter, files keep the one that is no other's.
        kept = {id(part): name for name, part in every}
        kept |= {id(part): name for name, part in every if name not in model.all_tied_weights_keys}
        named = {name: part.grad for name, part in every if kept[id(part)] == name}
        found: Mapping[str, Tensor | None] = revert_weight_conversion(model, named)
        return {name: slope for name, slope in found.items() if held is None or name in held}

    return Reference(forward, gradients, model)


def padded_batch(vocab_size: int, *, length: int = 12, seed: int = 0) -> Batch:
    """Three rows of random ids, one whole, one padded on the right, one of a single token less padded."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(3, vocab_size, (3, length), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, length // 2 :] = 0
    attention_mask[2, 3:] = 0
    labels = input_ids.masked_fill(attention_mask == 0, -100)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
