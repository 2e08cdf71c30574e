"""A backbone's projections with adapters beside them: PEFT's layers, put in by PEFT."""

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo.adapters.lora import LoRA
from zoo.adapters.quantized import dense, is_quantized
from zoo.errors import SpecError, did_you_mean
from zoo.extras import require
from zoo.hub.names import renamed
from zoo.layers import Linear


def projections(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers to which an adapter may be added, by name; what was added already is no part of a name."""
    for name, part in module.named_children():
        if type(part) in (nn.Linear, Linear) or is_quantized(part) or is_adapted(part):
            yield prefix + name, part
        else:
            yield from projections(part, f"{prefix}{name}.")


def make_linear(backbone: nn.Module) -> None:
    """Has maps that keep their weights otherwise than torch keep them as it does."""
    for name, part in list(backbone.named_modules()):
        if callable(as_linear := getattr(part, "as_linear", None)):
            backbone.set_submodule(name, as_linear())


def is_adapted(part: nn.Module) -> bool:
    """Whether a layer has adapters beside it."""
    return hasattr(part, "get_base_layer")


def hub_name(name: str, table: Mapping[str, str]) -> str:
    """A layer's name on the Hub, by a family's table."""
    return renamed(f"{name}.weight", table).removesuffix(".weight")


def targets(backbone: nn.Module, table: Mapping[str, str], wanted: Collection[str] | None) -> list[str]:
    """The projections that are meant.

    Args:
        backbone: Whose they are.
        table: Of the family's names on the Hub.
        wanted: Ends of names, ours or the Hub's; None: all projections.

    Raises:
        SpecError: One matches nothing.
    """
    known = {name: hub_name(name, table) for name, _ in projections(backbone)}
    if not known:
        raise SpecError(
            f"{type(backbone).__name__} has no torch.nn.Linear, to which an adapter could be added",
            at="model.adapter",
        )
    if wanted is None:
        return list(known)
    found = {end: [name for name in known if _ends(end, name, known[name])] for end in wanted}
    for end, names in found.items():
        if not names:
            lasts = {name.rpartition(".")[2] for names in known.items() for name in names}
            raise SpecError(
                f"no projection's name ends with `{end}`",
                at="model.adapter.target_modules",
                hint=did_you_mean(end, lasts),
            )
    return [name for name in known if any(name in names for names in found.values())]


def _ends(end: str, *names: str) -> bool:
    return any(f".{name}".endswith(f".{end}") for name in names)


def inject(backbone: nn.Module, lora: LoRA, name: str, targets: list[str]) -> None:
    """Puts an adapter beside projections; all else of the backbone is trained no more.

    Args:
        backbone: Changed in place.
        lora: What is added.
        name: The adapter's.
        targets: Projections, by their whole names.
    """
    require("model.adapter", "peft", "peft")
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        target_modules=targets,
        lora_dropout=lora.lora_dropout,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # that there are several is meant
        is_outline = next(backbone.parameters()).is_meta
        inject_adapter_in_model(config, backbone, name, low_cpu_mem_usage=is_outline)


def adapted(backbone: nn.Module) -> list[Any]:
    """The layers with adapters."""
    return [part for _, part in projections(backbone) if is_adapted(part)]


def choose(backbone: nn.Module, name: str | None) -> None:
    """Has one adapter in use, alone; None: none."""
    for layer in adapted(backbone):
        layer.enable_adapters(name is not None)
        if name is not None:
            layer.set_adapter(name)


@contextmanager
def without(backbone: nn.Module) -> Iterator[None]:
    """Leaves adapters out for a while."""
    layers = [layer for layer in adapted(backbone) if not layer.disable_adapters]
    trained = [part for layer in layers for part in layer.parameters() if part.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for part in trained:
            part.requires_grad_(True)


@torch.no_grad()
def merge(backbone: nn.Module, plain: nn.Module) -> None:
    """Gives a backbone that was just built, without memory, the weights of another and its adapter in use.

    Args:
        backbone: With adapters, or in four bits.
        plain: Shares all weights that are not changed.
    """
    parts: dict[str, Any] = dict(projections(backbone))
    inside = tuple(f"{name}." for name in parts)
    found = {key: value for key, value in backbone.state_dict().items() if not key.startswith(inside)}
    for name, layer in parts.items():
        base: Any = layer.get_base_layer() if is_adapted(layer) else layer
        weight = _weight(layer, dense(base))
        is_turned = hasattr(plain.get_submodule(name), "as_linear")
        found[f"{name}.weight"] = weight.T if is_turned else weight
        if base.bias is not None:
            found[f"{name}.bias"] = base.bias.detach()
    plain.load_state_dict(found, assign=True)


def _weight(layer: Any, weight: Tensor) -> Tensor:
    if not is_adapted(layer) or layer.disable_adapters:
        return weight
    for name in layer.active_adapters:
        if name in layer.lora_variant:
            weight = layer.lora_variant[name].merge_safe(layer, name, weight)
        elif name in layer.lora_A:
            weight = weight + layer.get_delta_weight(name).to(weight.dtype)
    return weight
